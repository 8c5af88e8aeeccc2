"""Economics: what the page says and shows. What is chosen, the answer, the tabs."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from app import budget, catalogue, costs, loads, machines, panels
from app import economics_data as kept
from app.browse import pick
from app.capacity import Plan, layout
from app.charts.figure import percent, times
from app.costs import Study, Subject
from app.panels import Number, Source
from app.scenario import Scenario
from app.words import escape, recorded_on, seconds, size
from moe_core.errors import ConfigError, InfeasibleError
from moe_core.perf import dense_curve, economics
from moe_core.perf.dense_curve import Point
from moe_core.perf.roofline import Roof, ridge_tokens
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
    price: float
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
    device = machines.get(scenario.hardware).name
    known: dict[str, float] = st.session_state.get("device_prices", {})
    listed = costs.listed_price(device)
    price = st.number_input(
        "$ an hour, a device",
        min_value=0.01,
        max_value=1e6,
        value=max(0.01, known.get(device, listed)),
        key=f"price_{device}",
        persist_state="session",
        width=150,
        help="Yours to edit: prices change weekly and by contract.",
    )
    others = [NOBODY, *(name for name in catalogue.names() if name != scenario.architecture)]
    beside = pick("Beside", others, "beside", width=190)
    unit = st.segmented_control(
        "Widths", UNITS, default=UNITS[0], required=True, key="unit", bind="query-params"
    )
    chosen = unit if unit in UNITS else UNITS[0]
    return Chosen(plan, framework, float(price), None if beside == NOBODY else beside, chosen)


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
    return Asked(scenario, chosen, study, run, Source("modelled", f"{words}; load {_load_words(run)}"))


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


def _load_words(run: Run | None) -> str:
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
    dollars = economics.per_million(asked.chosen.price, of.mixture.devices, rate)
    return (
        Number(
            "Time per output token, full size",
            seconds(found.seconds),
            f"{seconds(found.lower)} to {seconds(found.upper)}; {found.bound} binds; {where}",
            source,
        ),
        Number(
            "A million written tokens, full size",
            f"${significant(dollars)}",
            f"{count(rate / of.mixture.devices)} tokens/s each, ${significant(asked.chosen.price)} an hour",
            source,
        ),
    )


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


# -- tabs ------------------------------------------------------------------------------------------


def phases(asked: Asked) -> None:
    """Prefill and decode apart: time of a step, and what a device puts out."""
    of, batch = asked.study, asked.scenario.batch
    left, right = panels.pair()
    caveat = f"full size; filled: measured elsewhere; {of.past:,} tokens before the one that is written"
    with left:
        panels.show(
            kept.figure("over_batch", of, phase="decode", here=batch), "decode", asked.modelled, caveat=caveat
        )
    with right:
        panels.show(
            kept.figure("rate", of, here=batch), "rate", asked.modelled, caveat="full size, decode alone"
        )
    panels.show(
        kept.figure("over_batch", of, phase="prefill", here=batch),
        "prefill",
        asked.modelled,
        caveat=f"full size; whole prompts of {of.prompt:,} tokens, all at once",
    )
    st.caption(escape("; ".join(f"{one.name}: {_where(one, of)}" for one in of.subjects)))


def _where(one: Subject, of: Study) -> str:
    if one.devices == 1:
        return f"one {of.hardware.name}"
    return f"{one.devices} × {of.hardware.name}, {layout(one.parallel)}"


def work(asked: Asked) -> None:
    """Bytes and FLOPs per token, which roof binds, weights against cache."""
    of, batch = asked.study, asked.scenario.batch
    st.dataframe(
        _per_token(of, batch), hide_index=True, alt="Bytes, FLOPs and the binding limit of a written token"
    )
    left, right = panels.pair()
    with left:
        figure = kept.figure("parts", of, phase="decode")
        panels.show(figure, "parts_decode", asked.modelled, caveat="full size, decode")
    with right:
        figure = kept.figure("parts", of, phase="prefill")
        panels.show(figure, "parts_prefill", asked.modelled, caveat="full size, prefill")
    panels.show(
        kept.figure("cache", of), "cache_bytes", asked.modelled, caveat="full size, the busiest device"
    )
    plain, mixed = ridges(of)
    st.caption(
        f"A dense layer is bound by multiplying from {plain:,.0f} tokens on, this one from {mixed:,.0f}: "
        "E / K times as many, because each token multiplies K of E experts while all are read."
    )


def _per_token(of: Study, batch: int) -> pd.DataFrame:
    rows = kept.frame("decode", of)
    near = rows[rows["batch"] == min(rows["batch"], key=lambda known: abs(known - batch))]
    shown = near.assign(
        bytes=[size(b / n) for b, n in zip(near["bytes"], near["batch"], strict=True)],
        flops=[f"{count(f / n)}FLOP" for f, n in zip(near["flops"], near["batch"], strict=True)],
        step=near["seconds"].map(lambda s: seconds(float(s))),
        experts=[f"{significant(d)}" if d == d and d else "none" for d in near["distinct"].fillna(0)],
    )
    shown = shown[["name", "batch", "devices", "step", "bytes", "flops", "experts", "bound", "source"]]
    names = ("model", "batch", "devices", "step", "bytes a token", "FLOPs a token", "experts hit a layer")
    return shown.set_axis([*names, "binds", "source"], axis=1)


def money(asked: Asked) -> None:
    """Dollars for a million tokens over batch, and over demand in whole copies."""
    of, price = asked.study, asked.chosen.price
    left, right = panels.pair()
    with left:
        figure = kept.figure("dollars", of, price=price, here=asked.scenario.batch)
        panels.show(figure, "dollars", asked.modelled, caveat="full size, decode alone, fully used")
    with right:
        panels.show(
            kept.figure("demand", of, price=price), "demand", asked.modelled, caveat="full size, whole copies"
        )
    for line in _requests(asked):
        st.markdown(escape(line))


def _requests(asked: Asked) -> list[str]:
    """Dollars for a thousand requests of the scenario, prompt and answer, by model."""
    of, batch, lines = asked.study, asked.scenario.batch, []
    for one in of.subjects:
        try:
            prefill, decode = (costs.step(of, one, batch, phase).seconds for phase in ("prefill", "decode"))
        except InfeasibleError as error:
            lines.append(f"{one.name}: {error}.")
            continue
        paid = economics.request(asked.chosen.price, one.devices, batch, prefill, decode, of.written)
        share = prefill / (prefill + decode * of.written)
        lines.append(
            f"{one.name}: ${significant(1000 * paid)} for a thousand requests, {of.prompt:,} tokens read and "
            f"{of.written:,} written at batch {batch}; {percent(share)} of it for reading."
        )
    return lines


def rivals(asked: Asked) -> None:
    """Where the mixture and each rival change places, decode and prefill."""
    of = asked.study
    figure = kept.figure("over_batch", of, phase="decode", here=asked.scenario.batch)
    panels.show(figure, "rivals", asked.modelled, caveat="full size; twins keep everything but the experts")
    for words, phase in (("Decode", "decode"), ("Prefill", "prefill")):
        for name, found in kept.frame("crossings", of, phase=phase).items():
            st.markdown(escape(f"{words}, against {name}: {_crossing_words(of, name, phase, found)}"))
    st.caption(
        "Choose any other model under Beside. Crossings are exact batches, found by bisection on the model."
    )


def _crossing_words(of: Study, name: str, phase: str, found: list[tuple[int, str]]) -> str:
    if found:
        return "; ".join(f"from batch {batch} on {who} is faster" for batch, who in found) + "."
    rows = kept.frame(phase, of)
    own, other = (rows[rows["name"] == n].set_index("batch")["seconds"] for n in (of.mixture.name, name))
    both = (own / other).dropna()
    if both.empty:
        return "no batch fits both."
    who = of.mixture.name if float(both.iloc[0]) < 1 else name
    span = f"{times(float(both.min()))} to {times(float(both.max()))} its time"
    return f"{who} is faster at every batch that fits both: the mixture takes {span}."


def imbalance(asked: Asked) -> None:
    """What the load on the experts costs: recorded on the scale model, even, and as benchmarks draw it."""
    caveat = f"full size, one layer on one {asked.study.hardware.name}"
    panels.show(kept.figure("imbalance", asked.study), "imbalance", asked.modelled, caveat=caveat)
    st.caption(
        f"The link between the two scales: the load curve {_load_words(asked.run)}, stretched to the full "
        "size's experts. At few tokens an uneven load hits fewer experts and is cheaper; at many the busiest "
        "expert decides."
    )


def exchange(asked: Asked) -> None:
    """Expert parallelism: the share of a layer that exchanging tokens takes, by interconnect."""
    of = asked.study
    rows = kept.frame("exchanged", of)
    if rows.empty:
        st.info(
            "The experts of this mixture cannot be dealt out evenly over eight devices.",
            icon=":material/hub:",
        )
        return
    every = set(rows["source"])
    source = Source("measured elsewhere", TABLES) if every == {"measured elsewhere"} else asked.modelled
    link = f"{of.hardware.link_gbs:,.0f} GB/s both ways" if of.hardware.link_gbs else "no fast link"
    caveat = f"full size, one layer; inside a node {link}, between nodes 400 Gb/s a device; nothing hidden"
    panels.show(kept.figure("exchange", of), "exchange", source, caveat=caveat)
    st.caption(
        "DeepEP's dispatch and combine over the time of exchange and experts together. Overlap with the "
        "other half of a batch hides it (DeepSeek-V3). Published shares of 15 to 60 % are of training steps."
    )
