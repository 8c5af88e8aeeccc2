"""Routing: who does the work, and is it fair? The load first, then what it costs, says and leads to."""

import streamlit as st

from app import browse, data, live, panels, sidebar, summary

scenario = sidebar.current()
answer = live.follow(scenario.run_spec())
live.strip(answer)
if answer.routing is None:
    panels.nothing_yet(answer.problem is None)
    st.stop()

run, here = answer.routing, panels.recorded(answer.routing)
with live.routing(answer):
    panels.lead(*summary.routing(run))
    panels.numbers(summary.routing_numbers(run))
    load, text, price, pairs, flow, quality = st.tabs(
        ["Load", "Text", "Price", "Together", "Flow", "Quality against k"],
        on_change="rerun",
        key="view",
        bind="query-params",
    )
    if load.open:
        with load:
            browse.load(run, here)
    if text.open:
        with text:
            browse.text(run, here)
    if price.open:
        with price:
            left, right = panels.pair()
            with left:
                panels.show(
                    data.figure("distinct", run),
                    "distinct",
                    here,
                    caveat="line: mean of the layers, band: their range",
                )
                panels.show(data.figure("load_curve", run), "load_curve", here, caveat="scale model")
                panels.show(
                    data.figure("wanted", run),
                    "wanted",
                    here,
                    caveat="scale model; a carved router has no softmax: its share of the scores",
                )
            with right:
                panels.show(data.figure("balance", run), "balance", here, caveat="scale model")
    if pairs.open:
        with pairs:
            browse.together(run, here)
    if flow.open:
        with flow:
            browse.flow(run, here)
    if quality.open:
        with quality:
            browse.quality(scenario, answer, here)
