"""Routing: who does the work, and is it fair? The load first, then what it costs, says and leads to."""

import streamlit as st

from app import asked, data, live, panels, sidebar
from app.routing import frames, view

scenario = sidebar.current()
answer = live.follow(scenario.run_spec())
live.strip(answer)
if answer.routing is None:
    panels.nothing_yet(answer.problem is None)
    st.stop()

run, here = answer.routing, panels.recorded(answer.routing)
with live.routing(answer):
    panels.lead(*view.routing(run))
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
            left, right = panels.pair()
            with left:
                panels.show(
                    data.figure(frames.distinct, run),
                    "distinct",
                    here,
                    caveat="line: mean of the layers, band: their range",
                )
                panels.show(data.figure(frames.load_curve, run), "load_curve", here, caveat="test model")
                panels.show(
                    data.figure(frames.wanted, run),
                    "wanted",
                    here,
                    caveat="test model; a carved router has no softmax: its share of the scores",
                )
            with right:
                panels.show(data.figure(frames.balance, run), "balance", here, caveat="test model")
    if pairs.open:
        with pairs:
            view.together(run, here)
    if flow.open:
        with flow:
            view.flow(run, here)
    if quality.open:
        with quality:
            view.quality(scenario, answer, here)
