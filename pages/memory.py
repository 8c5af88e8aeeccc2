"""Memory: does it fit, and what fills it? Full size against the hardware, then the test model, measured."""

import streamlit as st

from app import asked, data, live, panels, sidebar
from app.memory import frames, view

scenario, device = sidebar.current(), data.device(sidebar.current())
head, tools = st.container(), st.container(horizontal=True, vertical_alignment="bottom", gap="small")
with tools:
    plan = view.plan(scenario)
case = view.case(scenario, plan)
modelled = view.source(case)
far = view.reach(case, device)
with head:
    panels.lead(view.sentence(case, far, device), modelled, view.device_source(device))
    panels.numbers(view.numbers(case, far, device, modelled))
where = "all of it on one device" if case.devices == 1 else f"the fullest of {case.devices:,} devices"
panels.show(view.main(scenario, case, device), "budget", modelled, caveat=f"full size, {where}")

every, formats, split, cache, offload, training, start = asked.tabs(
    "budget",
    "Every device",
    "Formats",
    "Split",
    "KV cache",
    "Experts on the host",
    "Training",
    "Start command",
)
if every.open:
    with every:
        view.devices(scenario, case, modelled)
if formats.open:
    with formats:
        view.formats(scenario, case, device, modelled)
if split.open:
    with split:
        view.split(scenario, case, device, modelled)
if cache.open:
    with cache:
        view.cache(scenario, case, modelled)
if offload.open:
    with offload:
        view.offload(scenario, case, device, modelled)
if training.open:
    with training:
        view.training(scenario, case, device, modelled)
if start.open:
    with start:
        view.commands(scenario, case)

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
            data.figure(frames.predicted, answer.run, model="moe"), "moe", here, caveat="test model, mixture"
        )
    with right:
        panels.show(
            data.figure(frames.predicted, answer.run, model="dense"),
            "dense",
            here,
            caveat="test model, dense",
        )
    st.caption(
        "Outline: predicted from the architecture. Solid: allocated tensors; the total is the process's peak."
    )
