"""Reviews: what did we decide, on what, and why? One review, its scenarios, charts, notes and decisions."""

import streamlit as st

from app import panels, shelf, sidebar
from app.reviews import verdict, view

scenario = sidebar.current()
shelf.problem()
view.follow()
table = view.listing()
if table.empty:
    view.nothing()
    view.start(scenario)
    shelf.shelf(scenario)
    st.stop()

answer = st.container()
with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
    saved = view.choose(table)
    view.start(scenario)
if saved is None:
    with answer:
        panels.lead(f"{len(table)} reviews are saved; choose one below")
    st.stop()

story = view.told(saved)
with answer:
    panels.lead(view.sentence(saved, story), *([view.MODELLED] if saved.review.scenarios else []))
    st.markdown(view.question(saved))
    panels.numbers(view.numbers(saved))
view.main(saved, story)

compared, argued, charts, notes, decided, files, versions, kept = st.tabs(
    ["Scenarios", "Verdict", "Charts", "Notes", "Decisions", "Export", "Versions", "Saved scenarios"],
    on_change="rerun",
    key="review_tab",
)
for tab, draw in (
    (compared, lambda: view.compared(saved, scenario)),
    (argued, lambda: verdict.told(saved)),
    (charts, lambda: view.charts(saved, story)),
    (notes, lambda: view.notes(saved)),
    (decided, lambda: view.decisions(saved)),
    (files, lambda: view.files(saved, story)),
    (versions, lambda: view.versions(saved)),
    (kept, lambda: shelf.shelf(scenario)),
):
    if tab.open:
        with tab:
            draw()
