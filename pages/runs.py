"""Runs: what was run, and how do two differ? Queue and workers first, then the history, then a comparison."""

import streamlit as st

from app import data, history, panels

table = data.history()
panels.lead(history.sentence(table))
history.queue()
if table.empty:
    panels.nothing_yet(waiting=any(job.active for job in data.jobs()))
    st.stop()

chosen = history.table(table)
if len(chosen) == 1:
    history.one(chosen[0])
elif len(chosen) == 2:
    history.two(*chosen)
else:
    st.caption("Select one run to open, export or delete it; select two to compare them.")
