"""Economics: what the page says and shows. What is chosen, the answer, the tabs."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from app import data, models, panels
from app.economics import frames
from app.figure import times
from app.panels import Number, Source, pick
from app.words import escape, recorded_on, seconds
from moe_core.decide.serving import Serving
from moe_core.decide.verdict import counted
from moe_core.errors import ConfigError, InfeasibleError
from moe_core.perf.dense_equivalent import CurvePoint, at
from moe_core.perf.roofline import Roof, ridge_tokens
from moe_core.scenario import answer as answers
from moe_core.scenario import costs, loads
from moe_core.scenario.costs import Study
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

    framework: str
    beside: str | None
    unit: str


class Asked(NamedTuple):
    """What the page prices, and where the load on its experts comes from. `served`: the mixture, answered."""

    scenario: Scenario
    chosen: Chosen
    study: Study
    served: Serving
    run: Run | None
    modelled: Source

    @property
    def batch(self) -> int:
        """Sequences at once: asked for, or in flight under the traffic."""
        return max(round(self.served.batch), 1)

    @property
    def price(self) -> float | None:
        """Dollars a device and hour; None where nobody says."""
        return self.study.hardware.usd_per_hour or None


# -- what is chosen --------------------------------------------------------------------------------


def controls(scenario: Scenario) -> Chosen:
    """The pickers under the answer."""
    framework = pick("Framework", list(FRAMEWORKS), "framework", width=110)
    others = [NOBODY, *(name for name in models.names() if name != scenario.architecture)]
    beside = pick("Beside", others, "beside", width=190)
    unit = st.segmented_control(
        "Widths", UNITS, default=UNITS[0], required=True, key="unit", bind="query-params"
    )
    chosen = unit if unit in UNITS else UNITS[0]
    return Chosen(framework, None if beside == NOBODY else beside, chosen)


def ask(scenario: Scenario, chosen: Chosen) -> Asked | None:
    """The study, or the designed state that says why there is none."""
    run = data.hears(scenario)
    try:
        study = frames.study(scenario, chosen.framework, run, chosen.beside)
        frames.frame("curves", study)
    except (InfeasibleError, ConfigError) as error:
        _refused(str(error), isinstance(error, InfeasibleError))
        return None
    words = frames.error_words(study.hardware.name, chosen.framework, loads.form(study))
    modelled = Source("modelled", f"{words}; load {load_words(run)}")
    return Asked(scenario, chosen, study, costs.served(study, study.mixture), run, modelled)


def _refused(words: str, infeasible: bool) -> None:
    """An answer too: what cannot be priced, the number that decided it, what to do."""
    if infeasible:
        st.title(f"There is no price for what does not fit: {escape(words)}", anchor=False)
        st.caption("Take more devices, a narrower format or a shorter context in the sidebar.")
    else:
        st.title(f"This cannot be priced. {escape(words)}", anchor=False)
        st.caption("Choose a listed device and a mixture whose layout is known, in the sidebar.")
        panels.link("speed", "How fast is this machine?")


def load_words(run: Run | None) -> str:
    """Where the load on the experts comes from."""
    if run is None:
        return "even"
    if run.served:
        return f"of a trace: {run.spec['title']}"
    return f"{recorded_on(run)} by the test model"


# -- the answer ------------------------------------------------------------------------------------


def answer(asked: Asked) -> None:
    """One sentence, four numbers, the curve."""
    panels.lead(sentence(asked), asked.modelled)
    panels.numbers(numbers(asked))


NEAR = 1.2  # a ratio of times up to here is "yes"
NEARER = 1.5  # up to here it comes near


def sentence(asked: Asked) -> str:
    """Does a token cost what the active parameters would?"""
    found: costs.Slowness | None = frames.frame("slowness", asked.study)
    name, batch = asked.study.mixture.name, asked.batch
    if found is None:
        return f"At batch {batch} {name} takes {seconds(asked.served.step.seconds)} a token"
    bank = asked.study.mixture.architecture.experts
    assert bank is not None, "a mixture has experts"
    woken = f"{int(found.distinct)} of {bank.count} experts"
    devices = asked.served.devices
    where = f", on {counted(devices, asked.study.hardware.title)} each," if devices > 1 else ""
    slower = f"{_rough(found.ratio)} the time of a dense model of its active size for a token"
    said = f"At batch {batch}{where} {name} takes {slower}"
    why = f"its tokens wake {woken}, and all of those must be read"
    return f"Yes. {said}, though {why}" if found.ratio <= NEAR else f"No. {said}: {why}. {_near(found)}"


def _near(found: costs.Slowness) -> str:
    """Where else it comes near what its active parameters would cost."""
    places = {"in long prompts": found.prompt}
    if found.batch > 1:
        places = {"at batch 1": found.one, **places}
    near = {place: ratio for place, ratio in places.items() if ratio <= min(NEARER, found.ratio)}
    if not near:
        return "; ".join(f"{place} it is {_rough(ratio)}" for place, ratio in places.items()).capitalize()
    ratios = [_rough(ratio) for ratio in near.values()]
    both = ratios[0] if len(set(ratios)) == 1 else " and ".join(ratios)
    return f"Only {', and again '.join(near)}{',' * (len(near) > 1)} does it come near ({both})"


def _rough(ratio: float) -> str:
    """Two figures: more is not known."""
    return f"{significant(ratio, 2)}×"


def numbers(asked: Asked) -> tuple[Number, ...]:
    """A token's time, a million tokens' price, the layer, the ridge."""
    one, of, where = asked.served, asked.study, counted(asked.served.devices, asked.study.hardware.title)
    timed = Source(one.step.source, TABLES) if one.step.source == "measured elsewhere" else asked.modelled
    token = Number(
        "Time per token, full size",
        seconds(one.step.seconds),
        f"{seconds(one.step.lower)} to {seconds(one.step.upper)}; batch {asked.batch} on {where}",
        timed,
    )
    return (token, _dollars(asked), _layer(asked), _ridge(of, asked.modelled))


def _dollars(asked: Asked) -> Number:
    one, alone = asked.served, answers.decoding(asked.served)
    if one.cost is None or alone is None:
        note = f"type one in the sidebar; {answers.energy(one)}"
        return Number("Cost of a million tokens, full size", "no price", note, asked.modelled)
    each = f"{count(answers.rate(one))} tokens/s each, ${significant(asked.price or 0)} an hour"
    return Number(
        "Cost of a million tokens, full size",
        f"${significant(one.cost)}",
        f"prompts included; ${significant(alone)} decoding alone, {each}; {answers.energy(one)}",
        asked.modelled,
    )


def _layer(asked: Asked) -> Number:
    """One expert layer as a dense width: measured where the tables hold it."""
    rows: pd.DataFrame = frames.frame("curves", asked.study)
    first = rows[rows["series"] == rows["series"].iloc[0]].to_dict("records")
    points = [CurvePoint(**{name: row[name] for name in CurvePoint._fields}) for row in first]
    top, batch, where = first[0], asked.batch, asked.study.hardware.title
    width = at(points, batch) or points[-1].width
    source = (
        asked.modelled if top["kind"] == "modelled" else Source(top["kind"], f"{top['series']}; {TABLES}")
    )
    return Number(
        "One expert layer, full size",
        f"{times(width / top['active'])} active",
        f"{times(width / top['total'])} its total width, {batch} tokens at once; {where}",
        source,
    )


def _ridge(of: Study, modelled: Source) -> Number:
    bank = of.mixture.architecture.experts
    assert bank is not None, "a mixture has experts"
    plain, mixed = ridges(of)
    note = f"dense: {plain:,.0f}; E / K = {significant(bank.count / bank.top_k)} times as many tokens"
    detail = f"data sheet of {of.hardware.title}: {of.hardware.source}; activations ignored"
    return Number("Ridge batch, full size", f"{mixed:,.0f}", note, Source("published", detail))


def ridges(of: Study) -> tuple[float, float]:
    """Tokens from which a dense layer and this mixture's layer are bound by multiplying."""
    bank, form = of.mixture.architecture.experts, loads.form(of)
    assert bank is not None, "a mixture has experts"
    roof, width = Roof(of.hardware.peak(form), of.hardware.bandwidth), costs.weight_bytes(form)
    return ridge_tokens(roof, width), ridge_tokens(roof, width, bank.count, bank.top_k)


def main(asked: Asked, spec: RunSpec) -> None:
    """The dense-equivalent curve."""
    batch = asked.batch
    here = {f"decode, batch {batch}": batch}
    prompt = f"prefill, {count(batch * asked.study.prompt)} tokens"
    here[prompt] = batch * asked.study.prompt
    unit: Any = asked.chosen.unit
    figure = frames.curve(asked.study, spec, here, unit)
    kind = "measured elsewhere" if "measured elsewhere" in set(figure.data["kind"]) else "modelled"
    source = Source("measured elsewhere", TABLES) if kind == "measured elsewhere" else asked.modelled
    caveat = (
        f"full size, one layer on one {asked.study.hardware.title}; points measured, "
        "dashed predicted by constants that never saw it"
    )
    panels.show(figure, "dense_equivalent", source, caveat=caveat)
    st.caption(
        "Lines are what people say a mixture costs. Widths beyond the measured products are drawn on in "
        "proportion. Epoch's rule is second-hand and meant for whole models."
    )
