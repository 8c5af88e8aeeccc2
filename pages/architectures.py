"""Architectures: what exists, exactly? One model first, then all of them, then the user's own."""

import streamlit as st

from app import atlas, panels, sidebar, workshop

scenario = sidebar.current()
answer, tools = st.container(), st.container(horizontal=True, vertical_alignment="bottom", gap="small")
with tools:
    model = atlas.pick(scenario)
    convention, rumours = atlas.controls()
    workshop.use(model, scenario)
with answer:
    panels.lead(atlas.sentence(model), atlas.source(model))
    panels.numbers(atlas.numbers(model, scenario))
atlas.landscape(model, convention, rumours)

one, edit, twins, compare, every, years, own = st.tabs(
    ["This model", "Edit", "Dense twins", "Compare", "Catalogue", "Over the years", "Import"],
    on_change="rerun",
    key="look",
    bind="query-params",
)
if one.open:
    with one:
        atlas.detail(model)
if edit.open:
    with edit:
        workshop.edit(model, scenario)
if twins.open:
    with twins:
        atlas.twins(model)
if compare.open:
    with compare:
        atlas.compare(model)
if every.open:
    with every:
        atlas.table(model, rumours)
if years.open:
    with years:
        atlas.years()
if own.open:
    with own:
        workshop.imports()
