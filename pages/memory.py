"""Memory: does it fit, and what fills it? Full size against the hardware, then the scale model, measured."""

import streamlit as st

from app import controls, data, live, panels, summary

scenario = controls.current()
modelled = panels.Source("modelled", data.full_size(scenario).source)
device = summary.device_source(data.device(scenario))

panels.lead(summary.memory_sentence(scenario), modelled, device)
panels.numbers(summary.memory_numbers(scenario, modelled))
panels.show(data.memory_budget(scenario), "budget", modelled, caveat="full size, all of it on one device")

answer = live.follow(scenario.run_spec())
live.strip(answer)
if answer.run is None:
    panels.nothing_yet(answer.problem is None)
    st.stop()

here = panels.source_of(answer.run)
with live.result(answer):
    left, right = panels.pair()
    with left:
        panels.show(
            data.figure("memory", answer.run, model="moe"), "moe", here, caveat="scale model, mixture"
        )
    with right:
        panels.show(
            data.figure("memory", answer.run, model="dense"), "dense", here, caveat="scale model, dense"
        )
    st.caption(
        "Outline: predicted from the architecture. Solid: allocated tensors; the total is the process's peak."
    )
