"""Memory: does it fit, and what fills it? Full size against the hardware, then the scale model, measured."""

import streamlit as st

from app import budget, capacity, data, live, panels, sidebar, summary
from app.panels import Source

scenario, device = sidebar.current(), data.device(sidebar.current())
head, tools = st.container(), st.container(horizontal=True, vertical_alignment="bottom", gap="small")
with tools:
    plan = budget.plan(scenario)
case = budget.case(scenario, plan)
modelled = Source("modelled", capacity.source(case))
far = budget.reach(scenario, case.plan, device)
with head:
    panels.lead(budget.sentence(case, far, device), modelled, summary.device_source(device))
    panels.numbers(budget.numbers(case, far, device, modelled))
where = "all of it on one device" if case.plan.devices == 1 else f"the fullest of {case.plan.devices} devices"
panels.show(budget.main(scenario, case.plan, device), "budget", modelled, caveat=f"full size, {where}")

every, formats, split, cache, offload, training = st.tabs(
    ["Every device", "Formats", "Split", "KV cache", "Experts on the host", "Training"],
    on_change="rerun",
    key="budget",
    bind="query-params",
)
if every.open:
    with every:
        budget.devices(scenario, case, modelled)
if formats.open:
    with formats:
        budget.formats(scenario, case, device, modelled)
if split.open:
    with split:
        budget.split(scenario, case, device, modelled)
if cache.open:
    with cache:
        budget.cache(scenario, case, modelled)
if offload.open:
    with offload:
        budget.offload(scenario, case, device, modelled)
if training.open:
    with training:
        budget.training(scenario, case, device, modelled)

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
