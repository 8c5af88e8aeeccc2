"""Accuracy: why believe the model? Our errors, computed from the data that ships, worst cases named."""

import streamlit as st

from app import accuracy, sidebar

if not accuracy.ready():
    st.stop()
head, tools = st.container(), st.container(horizontal=True, vertical_alignment="bottom", gap="small")
with tools:
    group = accuracy.choose(sidebar.current())
with head:
    accuracy.answer(group)
accuracy.main(group)

hardware, cuts, spread, served, worst = st.tabs(
    ["By hardware", "By case", "Distribution", "Served models", "Worst cases"],
    on_change="rerun",
    key="error",
    bind="query-params",
)
if hardware.open:
    with hardware:
        accuracy.by_hardware()
if cuts.open:
    with cuts:
        accuracy.by_cut(group)
if spread.open:
    with spread:
        accuracy.spread(group)
if served.open:
    with served:
        accuracy.served()
if worst.open:
    with worst:
        accuracy.worst(group)
