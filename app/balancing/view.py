"""Balancing: what keeps experts evenly used, what it does to the loss, and what an uneven load costs."""

from __future__ import annotations

from typing import Any, NamedTuple

import streamlit as st

from app import asked, data, panels
from app.balancing import frames
from app.experiments import frames as experiments
from app.experiments import live, series
from app.experiments import view as panel
from app.experiments.frames import Results
from app.figure import times
from app.panels import Number, Source
from app.words import escape, seconds
from moe_core.decide.verdict import counted
from moe_core.errors import ConfigError
from moe_core.labs.training.picks import MOST, PICKS, affordable, strategy, words
from moe_core.labs.training.table import TABLE, question
from moe_core.scenario.spec import Scenario, describe
from moe_core.specs import RunSpec, Strategy
from moe_core.store.queries import Run
from moe_core.units import significant

NOT = "not used"
USUAL = ("none", "auxiliary", "sign", NOT)  # what the four arms are at first
WORDS = {"none": "without balancing", "bias": "with a bias", "auxiliary": "with an auxiliary loss"}


class Stage(NamedTuple):
    """What the page opens with: the collapse experiment, and which part of it is nearest the scenario."""

    results: Results
    run: Run
    part: str
    violations: dict[str, float]
    priced: frames.HotPrice


def stage(scenario: Scenario) -> Stage | None:
    """None while nothing was trained."""
    live.take_in()
    results = experiments.results("collapse")
    run = results.best
    if run is None:
        return None
    parts = series.parts(series.without_floor(experiments.rows([run])))
    part = frames.nearest_part(parts, scenario.bank[1] if scenario.bank else 1)
    violations = frames.late(run, "maxvio_step", part)
    return Stage(results, run, part, violations, frames.price(scenario, violations))


def nothing_there() -> None:
    """A tab that needs the collapse experiment."""
    st.caption("This needs a run of the collapse experiment: start one with the button above.")


def nothing() -> None:
    """No result at all: what can be done about it."""
    st.title("Collapse has not been trained here yet, and no reference run of it ships", anchor=False)
    st.caption(
        "A quick run of the collapse experiment takes about a minute: its load, loss and heatmap appear live."
    )


# -- the answer ------------------------------------------------------------------------------------


def sentence(found: Stage) -> str:
    """How uneven the load is with and without balancing, and whether the loss shows it."""
    shares = {name: 1 + found.violations[name] for name in WORDS if name in found.violations}
    if not shares:
        return f"{TABLE['collapse'].title}: no strategy was measured"
    first, *others = [f"{times(share)} {WORDS[name]}" for name, share in shares.items()]
    first = first.replace(" ", " its fair share ", 1)
    told = f"{', '.join([first, *others[:-1]])} and {others[-1]}" if others else first
    k = f"At {found.part.replace('=', ' = ')} the" if found.part else "The"
    return f"{k} busiest expert does {told}; {_loss(found)}"


def _loss(found: Stage) -> str:
    told = _difference(found)
    if told is None:
        return "its loss was not compared"
    value, low, high = told["value"], told.get("low"), told.get("high")
    if low is None or high is None:
        return f"one seed cannot say whether the loss differs ({value:+.2g} nats)"
    if low <= 0 <= high:
        return "the loss does not tell them apart"
    return (
        f"without balancing the loss is {significant(abs(value), 2)} nats {'more' if value > 0 else 'less'}"
    )


def _difference(found: Stage) -> dict[str, Any] | None:
    name = f"loss_difference.{found.part.replace('=', '')}"
    return experiments.findings(found.run).get(name)


def numbers(scenario: Scenario, found: Stage) -> tuple[Number, ...]:
    """The busiest expert without and with a bias, the loss between them, and the price of the busiest."""
    here = panel.source(found.run)
    floor = series.floor(experiments.rows([found.run]), "maxvio_step", found.part)
    by_chance = f"; chance alone gives an even router {times(1 + floor[0])}" if floor else ""
    cards = [
        Number(f"Busiest, {how}, test model", times(1 + found.violations[name]), note, here)
        for name, how, note in (
            ("none", "no balancing", f"of fair share in a step, {found.part}{by_chance}"),
            ("bias", "with a bias", f"of fair share in a step, {found.part}"),
        )
        if name in found.violations
    ]
    told = _difference(found)
    if told is not None:
        cards.append(
            Number("Loss, none less bias, test model", f"{told['value']:+.3g} nats", _span(told), here)
        )
    return (*cards[:3], _price(scenario, found))


def _span(told: dict[str, Any]) -> str:
    if told.get("low") is None:
        return "one seed: no interval"
    return f"95 %: {told['low']:+.3g} to {told['high']:+.3g}, {told['seeds']} paired seeds"


def _price(scenario: Scenario, found: Stage) -> Number:
    label = "Busiest expert of a layer, full size"
    if found.priced.study is None or "none" not in found.violations:
        return Number(label, "no price", found.priced.refusal or "not measured", modelled(found))
    step = frames.tokens(scenario)["prompts"]
    rows = found.priced.rows
    fair, worst = (frames.at(rows, name, step) for name in (frames.EVEN, "none"))
    device = counted(1, found.priced.study.hardware.title)
    note = f"without balancing; even: {seconds(fair)}; {step:,} tokens of prompts, {device} an expert"
    return Number(label, seconds(worst), note, modelled(found))


def modelled(found: Stage) -> Source:
    """Where the price comes from."""
    if found.priced.study is None:
        return Source("modelled", "nothing was priced")
    return Source(
        "modelled",
        f"the MoE layer model on {found.priced.study.hardware.title} for one expert; the load is that of the "
        f"small model, taken over as it is ({panel.source(found.run).detail})",
        found.run.run_id,
    )


def main(found: Stage) -> None:
    """The collapse experiment: one measure over the steps."""
    job = live.jobs().get("collapse")
    rows = experiments.rows(found.results.runs)
    metric, axis, part = panel.pickers("collapse", rows, first=found.part)
    figure = experiments.figure("curves", found.results.runs, metric=metric, axis=axis, part=part)
    panels.show(figure, "collapse_curves", *panel.sources(found.results), caveat=panel.caveat(found.results))
    panel.buttons("collapse", job, named=True)


def start() -> None:
    """The buttons of the collapse experiment, where there is nothing to draw yet."""
    panel.buttons("collapse", live.jobs().get("collapse"), named=True)


def follow() -> None:
    """The collapse experiment while it trains."""
    live.follow(live.jobs().get("collapse"), "collapse")


# -- tabs ------------------------------------------------------------------------------------------


def load(found: Stage) -> None:
    """The heatmap over the training, differences and findings."""
    rows = experiments.rows(found.results.runs)
    panel.replayed(found.results, "maxvio_step", found.part, "collapse")
    panel.compared(found.results, rows, found.part, "collapse")


def price(scenario: Scenario, found: Stage) -> None:
    """The busiest expert in seconds, over the tokens of a step."""
    if found.priced.study is None:
        st.info(escape(found.priced.refusal), icon=":material/payments:")
        return
    figure = frames.price_figure(found.priced, frames.tokens(scenario))
    device = found.priced.study.hardware.title
    caveat = f"full size, one expert alone on one {device}; load of the test model, {found.part}"
    panels.show(figure, "price", modelled(found), caveat=caveat)
    st.caption(
        "Where experts stand on devices of their own, all wait for the busiest. The load over a whole window "
        "is more even than that of a step; the step is what is waited for, so it is priced. What exchanging "
        "tokens takes is on Economics."
    )


def failures(found: Stage) -> None:
    """Collapse and its opposite, a router that never learns to choose."""
    figure = experiments.figure("failures", found.results.runs)
    limits = (f"collapsed: below {series.COLLAPSED:.0%} in use", f"flat: indecision above {series.FLAT:.0%}")
    caveat = "; ".join(limits)
    panels.show(figure, "failures", *panel.sources(found.results), caveat=caveat)
    st.caption(
        "An even load alone proves nothing: a flat router spreads tokens as evenly as one that works. "
        "Both means are over the last quarter of the training."
    )


# -- one's own strategies --------------------------------------------------------------------------


def own(scenario: Scenario) -> None:
    """Up to four strategies side by side on the scenario's test model."""
    chosen, setting = _arms()
    spec = _question(scenario, chosen, setting)
    job = live.jobs().get("balancing")
    if spec is not None:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            live.button(
                "Train them here", spec, "run_balancing", kind="primary", busy=bool(job and job.active)
            )
            st.caption(f"{_mixture(scenario, spec)}. One arm after the other, seeds paired.")
    live.follow(job, "balancing")
    run = (data.answer(spec) if spec else None) or _newest()
    if run is None:
        if not (job and job.active):
            st.caption("Nothing of your own was trained yet. Curves and heatmap appear as they are measured.")
        return
    _result(data.run(run), spec)


def _mixture(scenario: Scenario, spec: RunSpec) -> str:
    """What is trained, and what it stands for where the scenario's own is too large for that."""
    bench, mine = scenario.run_spec(), describe(spec.experts, spec.top_k, spec.shared)
    whole = describe(bench.experts, bench.top_k, bench.shared)
    if mine == whole:
        return f"{mine}, as the scenario's test model"
    return (
        f"{mine}: the scenario's test model has {whole}; this has the same share active and can be paid here"
    )


def _newest() -> str | None:
    found = experiments.results("balancing").own
    return found.run_id if found else None


def _result(run: Run, spec: RunSpec | None) -> None:
    asked_now = spec is not None and run.spec == spec.model_dump(mode="json")
    if not asked_now:
        arms = "; ".join(words(Strategy.parse(one)) for one in run.spec["training"]["strategies"])
        bank = describe(run.spec["experts"], run.spec["top_k"], run.spec["shared"])
        st.caption(escape(f"Below: what you trained last ({bank}; {arms}), until these are trained."))
    results = Results("balancing", None, run)
    rows = experiments.rows([run])
    metric, axis, part = panel.pickers("balancing", rows)
    figure = experiments.figure("curves", [run], metric=metric, axis=axis, part=part)
    panels.show(figure, "balancing_curves", panel.source(run), caveat=panel.caveat(results))
    panel.compared(results, rows, part, "balancing")
    panel.replayed(results, metric, part, "balancing")


def _arms() -> tuple[list[Strategy], str]:
    """The pickers: four kinds with their numbers, and how long it is trained."""
    chosen: list[Strategy] = []
    with st.grid(4, min_column_width=190, gap="small") as grid:
        for at, usual in enumerate(USUAL, 1):
            with grid.cell():
                arm = _arm(at, usual)
                chosen += [arm] if arm else []
    setting = asked.segments("Setting", ("quick", "full"), "pick_balancing")
    return chosen, setting


def _arm(at: int, usual: str) -> Strategy | None:
    titles = {pick.title: name for name, pick in PICKS.items()} | ({NOT: NOT} if at > 1 else {})
    first = PICKS[usual].title if usual in PICKS else NOT
    ordered = [first, *(title for title in titles if title != first)]
    title = asked.pick(f"Strategy {at}", ordered, f"arm_{at}", on_change=_usual, args=(at,))
    name = titles[title]
    if name == NOT:
        return None
    pick = PICKS[name]
    if pick.usual is None:
        return strategy(name)
    key = f"strength_{at}"
    value = st.number_input(
        pick.strength.capitalize(),
        pick.least,
        MOST,
        value=pick.usual,
        key=key,
        bind="query-params",
        format="%g",
    )
    return strategy(name, float(value if isinstance(value, int | float) else pick.usual))


def _usual(at: int) -> None:
    """A kind that is newly chosen comes with its usual number."""
    title = st.session_state.get(f"arm_{at}")
    pick = next((pick for pick in PICKS.values() if pick.title == title), None)
    if pick is not None and pick.usual is not None:
        st.session_state[f"strength_{at}"] = pick.usual


def _question(scenario: Scenario, chosen: list[Strategy], setting: str) -> RunSpec | None:
    bench = scenario.run_spec()
    bank = affordable((bench.experts, bench.top_k, bench.shared), setting)
    try:
        return question("balancing", setting, strategies=chosen, bank=bank)  # type: ignore[arg-type]
    except ConfigError as error:
        st.warning(escape(str(error)), icon=":material/rule:")
        return None
