"""Economics: what the page says and shows. What is chosen, the answer, the tabs."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from app import budget, catalogue, costs, loads, panels
from app import economics_data as kept
from app.browse import pick
from app.capacity import Plan
from app.charts.figure import times
from app.costs import Study
from app.panels import Number, Source
from app.words import escape, recorded_on, seconds
from moe_core.errors import ConfigError, InfeasibleError
from moe_core.perf import dense_curve, economics
from moe_core.perf.dense_curve import Point
from moe_core.perf.roofline import Roof, ridge_tokens
from moe_core.scenario import devices as machines
from moe_core.scenario.spec import Scenario
from moe_core.specs import RunSpec
from moe_core.store.queries import Run
from moe_core.units import count, significant

FRAMEWORKS = ("vllm", "sglang")
NOBODY = "nobody else"
UNITS = ("active", "total")
TABLES = (
    "kernel tables of aiconfigurator-core 0.12.0 (NVIDIA, Apache-2.0): vLLM 0.24.0 and SGLang 0.5.14 "
    "under CUDA graphs, caches not emptied; data/silicon/README.md"
)


class Chosen(NamedTuple):
    """The page's own knobs."""

    plan: Plan
    framework: str
    price: float | None
    beside: str | None
    unit: str


class Asked(NamedTuple):
    """What the page prices, and where the load on its experts comes from."""

    scenario: Scenario
    chosen: Chosen
    study: Study
    run: Run | None
    modelled: Source


# -- what is chosen --------------------------------------------------------------------------------


def controls(scenario: Scenario) -> Chosen:
    """The pickers under the answer."""
    plan = budget.plan(scenario)
    framework = pick("Framework", list(FRAMEWORKS), "framework", width=110)
    price = scenario.price or costs.listed_price(machines.get(scenario.hardware).name)
    others = [NOBODY, *(name for name in catalogue.names() if name != scenario.architecture)]
    beside = pick("Beside", others, "beside", width=190)
    unit = st.segmented_control(
        "Widths", UNITS, default=UNITS[0], required=True, key="unit", bind="query-params"
    )
    chosen = unit if unit in UNITS else UNITS[0]
    return Chosen(plan, framework, price, None if beside == NOBODY else beside, chosen)


def ask(scenario: Scenario, chosen: Chosen) -> Asked | None:
    """The study, or the designed state that says why there is none."""
    run = kept.load_run(scenario.run_spec())
    try:
        study = kept.study(scenario, chosen.plan, chosen.framework, run, chosen.beside)
        kept.frame("curves", study)
    except (InfeasibleError, ConfigError) as error:
        _refused(str(error), isinstance(error, InfeasibleError))
        return None
    words = kept.error_words(study.hardware.name, chosen.framework, loads.form(study))
    return Asked(scenario, chosen, study, run, Source("modelled", f"{words}; load {load_words(run)}"))


def _refused(words: str, infeasible: bool) -> None:
    """An answer too: what cannot be priced, the number that decided it, what to do."""
    if infeasible:
        st.title(f"This cannot be priced: it does not fit. It {escape(words)}", anchor=False)
        st.caption(
            "Split it over more devices below, choose a narrower format, a shorter context or other hardware."
        )
    else:
        st.title(f"This cannot be priced. {escape(words)}", anchor=False)
        st.caption("Choose a listed device and a mixture whose layout is known, in the sidebar.")
        panels.link("speed", "How fast is this machine?")


def load_words(run: Run | None) -> str:
    """Where the load on the experts comes from."""
    return f"{recorded_on(run)} by the scale model" if run else "even: no run of the scale model yet"


# -- the answer ------------------------------------------------------------------------------------


def answer(asked: Asked) -> None:
    """One sentence, four numbers, the curve."""
    main = _main(asked)
    source = asked.modelled if main.kind == "modelled" else Source("measured elsewhere", main.note)
    panels.lead(sentence(asked, main), source)
    panels.numbers(numbers(asked, main, source))


class Main(NamedTuple):
    """The curve that the sentence speaks of: measured where the tables hold the layer."""

    points: list[Point]
    kind: str
    note: str
    active: float
    total: float


def _main(asked: Asked) -> Main:
    rows: pd.DataFrame = kept.frame("curves", asked.study)
    first = rows[rows["series"] == rows["series"].iloc[0]].to_dict("records")
    points = [Point(**{name: row[name] for name in Point._fields}) for row in first]
    top = first[0]
    return Main(points, top["kind"], f"{top['series']}; {TABLES}", top["active"], top["total"])


def sentence(asked: Asked, main: Main) -> str:
    """What the mixture costs at the scenario's batch, and up to which batch it costs its active size."""
    batch, name = asked.scenario.batch, asked.study.mixture.name
    width = dense_curve.at(main.points, batch) or main.points[-1].width
    words = (
        f"At batch {batch} the expert layers of {name} cost as much as dense ones "
        f"{times(width / main.total)} their total width"
    )
    until, first = dense_curve.active_until(main.points, main.active), main.points[0]
    if until is None:
        return f"{words}; even one token costs {times(first.width / main.active)} the active width"
    if until >= main.points[-1].tokens:
        return f"{words}; they cost their active width at every batch"
    return (
        f"{words}; {'one token costs' if until == 1 else f'up to batch {until} they cost'} the active width"
    )


def numbers(asked: Asked, main: Main, source: Source) -> tuple[Number, ...]:
    """The layer, a token's time, a million tokens' price, the ridge."""
    of, batch = asked.study, asked.scenario.batch
    width = dense_curve.at(main.points, batch) or main.points[-1].width
    layer = Number(
        "One expert layer, full size",
        f"{times(width / main.active)} active",
        f"{times(width / main.total)} its total width, {batch} tokens at once; {asked.study.hardware.name}",
        source,
    )
    return (layer, *_token(asked), _ridge(of, asked.modelled))


def _token(asked: Asked) -> tuple[Number, ...]:
    of, batch = asked.study, asked.scenario.batch
    found = costs.step(of, of.mixture, batch)
    source = Source(found.source, TABLES) if found.source == "measured elsewhere" else asked.modelled
    where = f"{of.mixture.devices} × {of.hardware.name}" if of.mixture.devices > 1 else of.hardware.name
    rate = batch / found.seconds
    return (
        Number(
            "Time per output token, full size",
            seconds(found.seconds),
            f"{seconds(found.lower)} to {seconds(found.upper)}; {found.bound} binds; {where}",
            source,
        ),
        _million(asked, rate, source),
    )


def _million(asked: Asked, rate: float, source: Source) -> Number:
    """Dollars for a million tokens at `rate` tokens a second; the rate alone where nobody names a price."""
    devices, price = asked.study.mixture.devices, asked.chosen.price
    name, each = "A million tokens, decoding alone, full size", f"{count(rate / devices)} tokens/s each"
    if price is None:
        return Number(name, "no price", f"{each}; {no_price(asked)}", source)
    dollars = economics.per_million(price, devices, rate)
    return Number(name, f"${significant(dollars)}", f"{each}, ${significant(price)} an hour", source)


def no_price(asked: Asked) -> str:
    """Why there are no dollars, and what to do."""
    return f"no list price of {asked.study.hardware.name} is known: type yours under Targets, money, team"


def _ridge(of: Study, modelled: Source) -> Number:
    bank = of.mixture.architecture.experts
    assert bank is not None, "a mixture has experts"
    plain, mixed = ridges(of)
    note = f"dense: {plain:,.0f}; E / K = {significant(bank.count / bank.top_k)} times as many tokens"
    detail = f"data sheet of {of.hardware.name}: {of.hardware.source}; activations ignored"
    return Number("Ridge batch, full size", f"{mixed:,.0f}", note, Source("published", detail))


def ridges(of: Study) -> tuple[float, float]:
    """Tokens from which a dense layer and this mixture's layer are bound by multiplying."""
    bank, form = of.mixture.architecture.experts, loads.form(of)
    assert bank is not None, "a mixture has experts"
    roof, width = Roof(of.hardware.peak(form), of.hardware.bandwidth), costs.weight_bytes(form)
    return ridge_tokens(roof, width), ridge_tokens(roof, width, bank.count, bank.top_k)


def main(asked: Asked, spec: RunSpec) -> None:
    """The dense-equivalent curve."""
    scenario = asked.scenario
    here = {f"decode, batch {scenario.batch}": scenario.batch}
    prompt = f"prefill, {count(scenario.batch * asked.study.prompt)} tokens"
    here[prompt] = scenario.batch * asked.study.prompt
    unit: Any = asked.chosen.unit
    figure = kept.curve(asked.study, spec, here, unit)
    kind = "measured elsewhere" if "measured elsewhere" in set(figure.data["kind"]) else "modelled"
    source = Source("measured elsewhere", TABLES) if kind == "measured elsewhere" else asked.modelled
    caveat = (
        f"full size, one layer on one {asked.study.hardware.name}; points measured, "
        "dashed predicted by constants that never saw it"
    )
    panels.show(figure, "dense_equivalent", source, caveat=caveat)
    st.caption(
        "Lines are what people say a mixture costs. Widths beyond the measured products are drawn on in "
        "proportion. Epoch's rule is second-hand and meant for whole models."
    )
