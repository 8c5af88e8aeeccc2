"""Architectures: what exists, exactly? One model first, then all of them, then the user's own."""

import streamlit as st

from app import asked, panels, sidebar
from app.architectures import view, workshop

scenario = sidebar.current()
answer, tools = st.container(), st.container(horizontal=True, vertical_alignment="bottom", gap="small")
with tools:
    model = view.pick(scenario)
    convention, rumours = view.controls()
    workshop.use(model, scenario)
    workshop.check(model)
with answer:
    panels.lead(view.sentence(model), view.source(model))
    panels.numbers(view.numbers(model, scenario))
view.landscape(model, convention, rumours)

one, edit, twins, compare, every, years, own = asked.tabs(
    "look", "This model", "Edit", "Dense twins", "Compare", "Catalogue", "Over the years", "Import"
)
if one.open:
    with one:
        view.detail(model)
if edit.open:
    with edit:
        workshop.edit(model, scenario)
if twins.open:
    with twins:
        view.twins(model)
if compare.open:
    with compare:
        view.compare(model)
if every.open:
    with every:
        view.table(model, rumours)
if years.open:
    with years:
        view.years()
if own.open:
    with own:
        workshop.imports()
