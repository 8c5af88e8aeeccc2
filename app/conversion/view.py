"""Conversion: what becomes of a dense model that is made a mixture, and of a mixture that is trained on."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import data, panels
from app.experiments import frames as experiments
from app.experiments import live, series
from app.experiments import view as panel
from app.experiments.frames import Results
from app.panels import Number
from app.routing import frames as routing
from moe_core.scenario.spec import Scenario
from moe_core.specs import Experiment
from moe_core.store.queries import Run
from moe_core.units import significant

LAB: Experiment = "upcycling"


def results() -> Results:
    """The runs of the upcycling experiment."""
    live.take_in()
    return experiments.results(LAB)


def answer(found: Results) -> None:
    """One sentence and at most four numbers; the designed state without a run."""
    run = found.best
    if run is None:
        st.title("No dense model was made a mixture here yet, and no reference run of it ships", anchor=False)
        st.caption(
            "Upcycling makes a mixture of a trained dense model and trains both on. A quick run takes a "
            "minute; its curves appear as they are measured."
        )
        return
    panels.lead(sentence(run), panel.source(run))
    panels.numbers(numbers(run))


def sentence(run: Run) -> str:
    """Whether the copy is exact, and what training on is worth at equal tokens and at equal work."""
    told = experiments.findings(run)
    start = told.get("error.copy", {}).get("value")
    first = "A mixture copied from a dense model"
    if start is not None:
        exact = (
            "answers as the dense model does" if start <= EXACT else "does not answer as the dense model does"
        )
        first += f" {exact} ({_power(start)} apart)"
    later = [
        f"{_compared(told[name])} {words}"
        for name, words in (
            ("loss_difference.tokens", "the dense model at equal tokens"),
            ("loss_difference.flops", "at equal FLOPs"),
        )
        if name in told
    ]
    few = ", in one seed" if experiments.seeds(run) < 2 else ""
    return f"{first}; trained on, it ends {' and '.join(later)}{few}" if later else first


EXACT = 1e-6  # relative


def _compared(told: dict[str, Any]) -> str:
    """`0.031 nats below`, or `level with` where the interval holds zero."""
    value, low, high = told["value"], told.get("low"), told.get("high")
    if low is not None and high is not None and low <= 0 <= high:
        return "level with"
    return f"{significant(abs(value), 2)} nats {'below' if value < 0 else 'above'}"


def _power(value: float) -> str:
    return "nothing" if value == 0 else f"{value:.1e}"


_CARDS = (
    ("error.copy", "Copy at the start, test model", "largest relative difference from the dense model"),
    ("loss_difference.tokens", "Equal tokens, test model", "upcycled less continued dense; "),
    ("loss_difference.flops", "Equal FLOPs, test model", "upcycled less continued dense; "),
    ("loss_difference.scratch_last", "From scratch, test model", "upcycled less trained from scratch; "),
)


def numbers(run: Run) -> tuple[Number, ...]:
    """What the experiment found, as far as it has."""
    told, here = experiments.findings(run), panel.source(run)
    return tuple(
        Number(
            label,
            panel.value_words({**told[name], "low": None}),
            note + _span(told[name]) * note.endswith("; "),
            here,
        )
        for name, label, note in _CARDS
        if name in told
    )


def _span(told: dict[str, Any]) -> str:
    if told.get("low") is None:
        return "one seed: no interval"
    return f"95 %: {told['low']:+.3g} to {told['high']:+.3g}, {told['seeds']} paired seeds"


def main(found: Results) -> None:
    """The loss of every way to start, over the steps."""
    job = live.jobs().get(LAB)
    live.follow(job, LAB, "loss")
    if found.runs:
        rows = experiments.rows(found.runs)
        metric, axis, part = panel.pickers(LAB, rows)
        figure = experiments.figure("curves", found.runs, metric=metric, axis=axis, part=part)
        panels.show(figure, "upcycling_curves", *panel.sources(found), caveat=panel.caveat(found))
    panel.buttons(LAB, job, named=True)


def upcycling(found: Results) -> None:
    """Differences by seed, and everything that was found."""
    if not found.runs:
        st.caption("This needs a run of the upcycling experiment: start one with the button above.")
        return
    rows = experiments.rows(found.runs)
    panel.compared(found, rows, series.parts(series.without_floor(rows))[0], LAB)


def carving(scenario: Scenario) -> None:
    """What carving the trained dense model costs, from the runs of the test model."""
    st.markdown(
        "Carving cuts the trained dense test model into experts without training: what it costs is the price "
        "of not training, and never evidence about mixtures."
    )
    sweep = data.tested(scenario.run_spec("topk_sweep"))
    if sweep is None:
        st.caption("No sweep over k is recorded yet: Routing measures one when it is opened.")
    else:
        figure = data.figure(routing.quality_against_k, sweep, k=int(sweep.spec["top_k"]))
        panels.show(
            figure, "carving_against_k", panels.recorded(sweep), caveat="test model, not trained further"
        )
    bench = data.tested(scenario.run_spec())
    if bench is not None:
        figure = data.figure(routing.quality_by_domain, bench)
        panels.show(figure, "carving_by_domain", panels.recorded(bench), caveat="test model, by kind of text")
    panels.link("routing", "Measure the mixture of the sidebar")
