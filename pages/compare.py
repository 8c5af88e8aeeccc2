"""Compare: up to four scenarios side by side. One answer, a number each, one chart; the table below it."""

import streamlit as st

from app import compare, compare_forms, shelf, sidebar

scenario = sidebar.current()
shelf.problem()
sides = compare.chosen()
compare.share(sides)
if not sides:
    compare.nothing()
    compare_forms.first(scenario)
    st.stop()

compare.answer(sides)
compare_forms.bar(sides, scenario)
compare.main(sides)
table, memory, keep, share = st.tabs(
    ["Side by side", "Memory", "Save and review", "Share"], on_change="rerun", key="compare_tab"
)
for tab, draw in (
    (table, compare.table),
    (memory, compare.memory),
    (keep, compare_forms.keep),
    (share, compare.links),
):
    if tab.open:
        with tab:
            draw(sides)
