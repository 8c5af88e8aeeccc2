"""Reviews: what did we decide, on what, and why? One review, its scenarios, charts, notes and decisions."""

import streamlit as st

from app import panels, reviews, ruled, shelf, sidebar

scenario = sidebar.current()
shelf.problem()
reviews.follow()
table = reviews.listing()
if table.empty:
    reviews.nothing()
    reviews.start(scenario)
    shelf.shelf(scenario)
    st.stop()

answer = st.container()
with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
    saved = reviews.choose(table)
    reviews.start(scenario)
if saved is None:
    with answer:
        panels.lead(f"{len(table)} reviews are saved; choose one below")
    st.stop()

story = reviews.told(saved)
with answer:
    panels.lead(reviews.sentence(saved, story), *([reviews.MODELLED] if saved.review.scenarios else []))
    st.markdown(reviews.question(saved))
    panels.numbers(reviews.numbers(saved))
reviews.main(saved, story)

compared, argued, charts, notes, decided, files, versions, kept = st.tabs(
    ["Scenarios", "Verdict", "Charts", "Notes", "Decisions", "Export", "Versions", "Saved scenarios"],
    on_change="rerun",
    key="review_tab",
)
for tab, draw in (
    (compared, lambda: reviews.compared(saved, scenario)),
    (argued, lambda: ruled.told(saved)),
    (charts, lambda: reviews.charts(saved, story)),
    (notes, lambda: reviews.notes(saved)),
    (decided, lambda: reviews.decisions(saved)),
    (files, lambda: reviews.files(saved, story)),
    (versions, lambda: reviews.versions(saved)),
    (kept, lambda: shelf.shelf(scenario)),
):
    if tab.open:
        with tab:
            draw()
