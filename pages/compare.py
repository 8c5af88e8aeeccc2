"""Compare: up to four scenarios side by side. One answer, a number each, one chart; the table below it."""

import streamlit as st

from app import shelf, sidebar
from app.compare import forms, view

scenario = sidebar.current()
shelf.problem()
sides = view.chosen()
view.share(sides)
if not sides:
    view.nothing()
    forms.first(scenario)
    st.stop()

view.answer(sides)
forms.bar(sides, scenario)
view.main(sides)
table, memory, keep, share = st.tabs(
    ["Side by side", "Memory", "Save and review", "Share"], on_change="rerun", key="compare_tab"
)
for tab, draw in (
    (table, view.table),
    (memory, view.memory),
    (keep, forms.keep),
    (share, view.links),
):
    if tab.open:
        with tab:
            draw(sides)
