"""Speed: how fast on this device, and is it the architecture or the code? One layer over tokens, live."""

import streamlit as st

from app import asked, live, panels, sidebar
from app.speed import view

scenario = sidebar.current()
answer = live.follow(view.spec(scenario))
live.strip(answer)
if answer.run is None:
    panels.nothing_yet(answer.problem is None)
    st.stop()

run, here = answer.run, panels.source_of(answer.run)
with live.result(answer):
    panels.lead(view.sentence(run), here)
    panels.numbers(view.numbers(run))
    view.main(run)
code, predicted, roof, real, components = asked.tabs(
    "timing", "Architecture or code", "Predicted", "Roofline", "Real sizes", "Components"
)
if code.open:
    with code:
        view.code(run, here)
if predicted.open:
    with predicted:
        view.beside(run, here)
if roof.open:
    with roof:
        view.roof(run, here)
if real.open:
    with real:
        view.real(scenario)
if components.open:
    with components:
        view.components(scenario)
