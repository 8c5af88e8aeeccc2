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
    left, right = panels.pair()
    with left:
        panels.show(data.figure("phases", run), "phases", here, caveat="scale model, median of the repeats")
    with right:
        summary.verdict_card(facts, scenario, run)
    left, right = panels.pair()
    with left:
        panels.show(data.figure("load", run, compact=True), "load", here, caveat="scale model")
        panels.link("routing", "Who does the work, and is it fair?")
    with right:
        panels.show(data.figure("bits", run), "bits", here, caveat="scale model, held-out text")
        panels.show(data.figure("peak", run), "peak", here, caveat="scale model, peak of the process")
    over_batch = data.against_batch(run)
    if over_batch:
        panels.show(over_batch, "batch", here, caveat="every run of this mixture on this device")
    details = st.expander("Where the time goes, component by component", key="components", on_change="rerun")
    if details.open:
        with details:
            left, right = panels.pair()
            for place, phase in ((left, "prefill"), (right, "decode")):
                with place:
                    panels.show(
                        data.figure("components", run, phase=phase), phase, here, caveat="scale model, median"
                    )
