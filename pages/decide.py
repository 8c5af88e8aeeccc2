"""Decide: which one, why, and what would change it? The whole argument for one pair."""

import streamlit as st

from app import panels, sidebar
from app.decide import frames, keep, view

scenario = sidebar.current()
head = st.container()
with head:
    ruling = view.ask(scenario)
    if ruling:
        panels.lead(view.sentence(ruling), view.source(ruling))
        panels.numbers(view.numbers(ruling))
if ruling is None:
    st.stop()
with head:
    keep.offer(scenario, ruling)

panels.show(frames.factors(ruling), "factors", view.source(ruling), caveat="full size and test model")
left, right = panels.pair()
with left:
    view.counter_card(ruling)
with right:
    view.pair_card(ruling)

flips, tornado, evidence, weights = st.tabs(
    ["What would flip it", "Sensitivity", "Evidence", "Weights"],
    on_change="rerun",
    key="argue",
    bind="query-params",
)
if flips.open:
    with flips:
        view.flips(ruling)
if tornado.open:
    with tornado:
        panels.show(frames.swings(ruling), "tornado", view.source(ruling), caveat="one at a time")
if evidence.open:
    with evidence:
        view.evidence(ruling)
if weights.open:
    with weights:
        view.weight_sliders(ruling, scenario.preset)
