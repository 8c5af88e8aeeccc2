"""Overview: dense or mixture, here? One answer that follows the sidebar, four numbers, one chart."""

import streamlit as st

from app import live, panels, sidebar
from app.decide import frames as decide_frames
from app.decide import view as decide_view
from app.overview import view

scenario = sidebar.current()
answer = live.follow(scenario.run_spec())
live.strip(answer)
with live.result(answer) if answer.run else st.container():
    head = st.container()
    with head:
        ruling = decide_view.ask(scenario)
        if ruling:
            panels.lead(decide_view.sentence(ruling), decide_view.source(ruling))
            panels.numbers(decide_view.numbers(ruling))
    if ruling:
        left, right = panels.pair()
        with left:
            knob = next(iter(decide_frames.knob_names(ruling)))
            panels.show(
                decide_frames.curve(ruling, knob), "margin", decide_view.source(ruling), caveat="full size"
            )
        with right:
            decide_view.card(ruling)
    view.onward()  # before the test model: the question is answered, the rest is evidence
if answer.routing:
    with live.routing(answer):
        view.recorded(answer.routing)
if answer.run:
    with live.evidence(answer):
        view.measured(answer.run)
