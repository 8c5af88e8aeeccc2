"""Summary: what a run says in sentences and numbers: the overview's evidence, the routing page's answer."""

from __future__ import annotations

import streamlit as st

from app import data, panels
from app.decide import view as decide_view
from app.decide.frames import Ruling
from app.overview import frames
from app.panels import Source
from app.routing import frames as routing_frames
from app.speed import frames as speed_frames
from moe_core.scenario import link
from moe_core.scenario.spec import Scenario, describe
from moe_core.store.queries import Run

JOURNEYS = (
    (
        "Explore",
        "Move experts, experts per token or batch in the sidebar: heatmap, memory and verdict follow. "
        "Undo and Reset bring it back.",
        (("routing", "Who does the work, and is it fair?"), ("memory", "What fills the memory?")),
    ),
    (
        "Review",
        "A mixture against its dense rival, on your machines and traffic. Leave with a deck.",
        (("compare", "Up to four scenarios side by side"), ("reviews", "Keep a decision, and export it")),
    ),
    (
        "Settle an argument",
        "Does a mixture cost only its active parameters? A curve, its evidence and its error.",
        (("economics", "What does a token cost?"), ("decide", "The whole argument, and what would flip it")),
    ),
)
HEIGHT = 190  # of the heatmap, so that it stands above the fold


def strip(of: Ruling) -> None:
    """From dense to mixture, with the error bar and the nearest flip."""
    figure = frames.strip(of)
    if figure:
        panels.show(figure, "strip", decide_view.source(of), slim=True)


def memory(of: Ruling) -> None:
    """What fills a device of each candidate."""
    panels.show(frames.memory(of), "memory", decide_view.source(of), caveat="full size, the fullest device")


def recorded(scenario: Scenario, run: Run) -> None:
    """The load that the test model recorded, in sight; under it which mixture ran, and where."""
    panels.show(
        data.figure(routing_frames.load, run, compact=True),
        "load",
        panels.recorded(run),
        caveat=f"test model. {link.tested(scenario)} {ran(run, scenario)}",
        height=HEIGHT,
    )


def ran(run: Run, scenario: Scenario) -> str:
    """`This load: recorded on NVIDIA H100, 2026-11-22.`; whose it is, where it is another mixture's."""
    asked = scenario.run_spec()
    bank = (int(run.spec["experts"]), int(run.spec["top_k"]), int(run.spec["shared"]))
    whose = "" if bank == (asked.experts, asked.top_k, asked.shared) else f"{describe(*bank)}, "
    here = f"This load: {whose}recorded on {run.provenance['device']}, {run.created:%Y-%m-%d}."
    heard = data.hears(scenario)
    if heard is None:
        return f"{here} The answer above takes an even load."
    return f"{here} The answer above takes the load of a trace." if heard.served else here


def measured(run: Run) -> None:
    """What else the test model measured, times, quality and memory, behind one click."""
    here = panels.source_of(run)
    opened = st.expander(
        "More of the test model, run for real",
        expanded=panels.wanted("phases", "bits", "peak", "batch", "prefill", "decode"),
        key="scale_model",
        on_change="rerun",
    )
    if opened.open:
        with opened:
            _more(run, here)


def _more(run: Run, here: Source) -> None:
    panels.show(data.figure(frames.phases, run), "phases", here, caveat="test model, median of the repeats")
    left, right = panels.pair()
    with left:
        panels.show(data.figure(frames.bits, run), "bits", here, caveat="test model, held-out text")
    with right:
        panels.show(data.figure(frames.peak, run), "peak", here, caveat="test model, peak of the process")
    over_batch = frames.against_batch(run)
    if over_batch:
        panels.show(over_batch, "batch", here, caveat="every run of this mixture on this device")
    for phase in ("prefill", "decode"):
        figure = data.figure(speed_frames.components, run, phase=phase)
        panels.show(figure, phase, here, caveat="test model, median")


def onward() -> None:
    """Three journeys from here: explore, review, settle an argument."""
    with st.grid(len(JOURNEYS), min_column_width=260, gap="small"):
        for title, words, links in JOURNEYS:
            with st.container(border=True, gap="xsmall", height="stretch"):
                st.markdown(f"**{title}**")
                st.caption(words)
                for page, label in links:
                    panels.link(page, label)
