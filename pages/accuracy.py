"""Accuracy: why believe the model? Our errors, computed from the data that ships, worst cases named."""

import streamlit as st

from app import asked, sidebar
from app.accuracy import view

if not view.ready():
    st.stop()
head, tools = st.container(), st.container(horizontal=True, vertical_alignment="bottom", gap="small")
with tools:
    group = view.choose(sidebar.current())
with head:
    view.answer(group)
view.main(group)

hardware, cuts, spread, served, worst = asked.tabs(
    "error", "By hardware", "By case", "Distribution", "Served models", "Worst cases"
)
if hardware.open:
    with hardware:
        view.by_hardware()
if cuts.open:
    with cuts:
        view.by_cut(group)
if spread.open:
    with spread:
        view.spread(group)
if served.open:
    with served:
        view.served()
if worst.open:
    with worst:
        view.worst(group)
