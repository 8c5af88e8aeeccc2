"""Runs: what was run, and how do two differ? Queue and workers first, then the history, then a comparison."""

import streamlit as st

from app import data, panels
from app.runs import view

table = data.history()
panels.lead(view.sentence(table))
view.queue()
if table.empty:
    panels.nothing_yet(waiting=any(job.active for job in data.jobs()))
    st.stop()

chosen = view.table(table)
if len(chosen) == 1:
    view.one(chosen[0])
elif len(chosen) == 2:
    view.two(*chosen)
else:
    st.caption("Select one run to open, export or delete it; select two to compare them.")
