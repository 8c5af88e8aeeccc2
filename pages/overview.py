"""Overview: dense or mixture, here? One sentence, four numbers, the times, the verdict, the routing."""

import streamlit as st

from app import controls, data, live, panels, summary

scenario = controls.current()
answer = live.follow(scenario.run_spec())
live.strip(answer)
if answer.run is None:
    panels.nothing_yet(answer.problem is None)
    st.stop()

run, here = answer.run, panels.source_of(answer.run)
with live.result(answer):
    facts = summary.overview(scenario, run)
    panels.lead(facts.sentence, here)
    panels.numbers(facts.numbers)
    left, right = st.columns([3, 2], gap="small")
    with left:
        panels.show(data.figure("phases", run), "phases", here, caveat="scale model, median of the repeats")
    with right:
        summary.verdict_card(facts, scenario, run)
    left, right = st.columns([3, 2], gap="small")
    with left:
        panels.show(data.figure("load", run, compact=True), "load", here, caveat="scale model")
        panels.link("routing", "Who does the work, and is it fair?")
    with right:
        panels.show(summary.quality_figure(run), "bits", here, caveat="scale model, held-out text")
        panels.show(summary.memory_figure(run), "peak", here, caveat="scale model, peak of the process")
    runs = summary.batch_runs(run)
    if runs["batch"].nunique() > 1:
        panels.show(
            summary.batch_figure(runs, run),
            "batch",
            here,
            caveat="every run of this mixture on this device",
        )
