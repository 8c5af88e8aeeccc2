"""Routing: who does the work, and is it fair? The load first, then what it costs, says and leads to."""

from contextlib import nullcontext

import streamlit as st

from app import asked, live, panels, sidebar
from app.routing import view

scenario = sidebar.current()
trace = view.source(scenario)
answer = None if trace else live.follow(scenario.run_spec())
if answer:
    live.strip(answer)
run = trace or answer.routing
if run is None:
    panels.nothing_yet(answer.problem is None)
    st.stop()

here = panels.recorded(run)
with live.routing(answer) if answer else nullcontext():
    panels.lead(*view.routing(run))
    if trace:
        view.about(trace)
    panels.numbers(view.routing_numbers(run))
    load, text, price, pairs, flow, quality = asked.tabs(
        "view", "Load", "Text", "Price", "Together", "Flow", "Quality against k"
    )
    if load.open:
        with load:
            view.load(run, here)
    if text.open:
        with text:
            view.text(run, here)
    if price.open:
        with price:
            view.price(run, here)
    if pairs.open:
        with pairs:
            view.together(run, here)
    if flow.open:
        with flow:
            view.flow(run, here)
    if quality.open:
        with quality:
            view.quality(scenario, answer, here)
