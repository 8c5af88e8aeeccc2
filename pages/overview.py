"""Overview: dense or mixture, here? One answer that follows the sidebar, four numbers, one chart."""

import streamlit as st

from app import decide, live, panels, rulings, sidebar, summary

scenario = sidebar.current()
answer = live.follow(scenario.run_spec())
live.strip(answer)
with live.result(answer) if answer.run else st.container():
    head = st.container()
    with head:
        ruling = decide.ask(scenario)
        if ruling:
            panels.lead(decide.sentence(ruling), decide.source(ruling))
            panels.numbers(decide.numbers(ruling))
    if ruling:
        left, right = panels.pair()
        with left:
            knob = next(iter(rulings.knob_names(ruling)))
            panels.show(rulings.curve(ruling, knob), "margin", decide.source(ruling), caveat="full size")
        with right:
            decide.card(ruling)
    summary.onward()  # before the scale model: the question is answered, the rest is evidence
if answer.routing:
    with live.routing(answer):
        summary.recorded(answer.routing)
if answer.run:
    with live.evidence(answer):
        summary.measured(answer.run)
