"""Decide: which one, why, and what would change it? The whole argument for one pair."""

import streamlit as st

from app import decide, live, panels, ruled, rulings, sidebar

scenario = sidebar.current()
answer = live.follow(scenario.run_spec())
live.strip(answer)
head = st.container()
with head:
    ruling = decide.ask(scenario)
    if ruling:
        panels.lead(decide.sentence(ruling), decide.source(ruling))
        panels.numbers(decide.numbers(ruling))
if ruling is None:
    st.stop()
with head:
    ruled.offer(scenario, ruling)

panels.show(rulings.factors(ruling), "factors", decide.source(ruling), caveat="full size and scale model")
left, right = panels.pair()
with left:
    decide.counter_card(ruling)
with right:
    decide.pair_card(ruling)

flips, tornado, evidence, weights = st.tabs(
    ["What would flip it", "Sensitivity", "Evidence", "Weights"],
    on_change="rerun",
    key="argue",
    bind="query-params",
)
if flips.open:
    with flips:
        decide.flips(ruling)
if tornado.open:
    with tornado:
        panels.show(rulings.swings(ruling), "tornado", decide.source(ruling), caveat="one at a time")
if evidence.open:
    with evidence:
        decide.evidence(ruling)
if weights.open:
    with weights:
        decide.weight_sliders(ruling, scenario.preset)
