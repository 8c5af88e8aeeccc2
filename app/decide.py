"""Decide: the parts of the Decide page, some of which the Overview shows too. Choices, answer, evidence."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import streamlit as st

from app import controls, data, panels, rulings, scenario
from app.charts.figure import times
from app.panels import Number, Source
from app.rulings import AUTO, RULES, Chosen, Ruling
from app.scenario import Scenario
from app.words import escape, seconds, size
from moe_core.decide import rules
from moe_core.decide.factors import Factor
from moe_core.decide.flips import Flip
from moe_core.errors import ConfigError, InfeasibleError, MoEScopeError
from moe_core.store.queries import Run
from moe_core.units import significant

COLOURS = {"mixture": "orange", "dense": "blue"}
MANY = (AUTO, "1", "2", "4", "8", "16", "32", "64", "128", "256")
TRAINING = ("none", "fine-tune", "from scratch")
SKILL = ("none", "some", "expert")
_AS_PRESET = "as the preset"


# -- what is chosen --------------------------------------------------------------------------------


def controls_row() -> Chosen:
    """Kind of work, the dense side, devices; the rest behind a button. They live in the URL."""
    preset = _pick("Kind of work", list(rules.presets()), "preset", 190, _preset_words, on_change=_adopt)
    rival = _pick("Against", [AUTO, *RULES, *rulings.dense_models()], "rival", 210, _rival_words)
    many = _pick("Devices", list(MANY), "many", 120, lambda name: "as it takes" if name == AUTO else name)
    with st.popover("Targets, traffic, team", icon=":material/tune:"):
        more = _more(preset)
    return Chosen(preset, rival, None if many == AUTO else int(many), weights=weights(preset), **more)


def _pick(label: str, options: list[str], key: str, width: int, words: Any, **extra: Any) -> str:
    found = st.selectbox(
        label,
        options,
        key=key,
        bind="query-params",
        persist_state="session",
        width=width,
        format_func=words,
        **extra,
    )
    return found if found in options else options[0]


def _preset_words(name: str) -> str:
    return rules.presets()[name].title


def _rival_words(name: str) -> str:
    if name == AUTO:
        return "its published rival"
    return f"dense, {rules.pair_rules()[name].title}" if name in RULES else name


def _adopt() -> None:
    """A newly chosen kind of work sets batch, context and length, as near as the sidebar goes."""
    work = rules.preset(st.session_state["preset"]).workload
    for field, name in (("batch", "batch"), ("context", "context"), ("write", "output")):
        st.session_state[field] = scenario.nearest(field, work[name])


def _more(preset: str) -> dict[str, Any]:
    """Targets in place of the preset's, traffic, money, and the team."""
    work = rules.preset(preset).workload
    found: dict[str, Any] = {}
    for name, label in (("latency_ms", "Target, ms a token"), ("ttft_ms", "Target, ms to the first token")):
        found[name] = _number(label, name, f"{work[name]:g}, {_AS_PRESET}" if name in work else "none")
    found["traffic"] = _number("Traffic, requests a second", "traffic", "none: the batch is fixed")
    found["budget"] = _number("Budget, $ a million tokens written", "budget_usd", "none")
    found["price"] = _price()
    found["link_gbs"] = _number("Link between devices, GB/s both ways", "link_gbs", "as the device has it")
    task = _pick("Task", [AUTO, *rules.tasks()], "task", 300, _task_words)
    found["task"] = None if task == AUTO else task
    found["training"] = _pick("The team trains", list(TRAINING), "training", 300, str)
    found["skill"] = _pick("It has trained routers", list(SKILL), "skill", 300, _skill_words)
    return found


def _number(label: str, key: str, placeholder: str) -> float | None:
    return st.number_input(
        label,
        min_value=1e-3,
        max_value=1e8,
        value=None,
        placeholder=placeholder,
        key=key,
        persist_state="session",
        width=300,
    )


def _price() -> float | None:
    """What the Memory page's price list says of the scenario's device, where it was edited."""
    known: dict[str, float] = st.session_state.get("device_prices", {})
    return known.get(data.device(controls.current()).name)


def _task_words(name: str) -> str:
    return _AS_PRESET if name == AUTO else rules.tasks()[name].title


def _skill_words(name: str) -> str:
    return {"none": "never", "some": "now and then", "expert": "often"}[name]


def weights(preset: str) -> tuple[tuple[str, float], ...]:
    """The weights that were moved away from the preset's."""
    found = []
    for name, usual in rulings.weight_of(preset).items():
        value = st.session_state.get(_slider_key(preset, name), usual)
        if isinstance(value, int | float) and value != usual:
            found.append((name, float(value)))
    return tuple(found)


def _slider_key(preset: str, name: str) -> str:
    return f"weight_{preset}_{name}"


# -- the answer ------------------------------------------------------------------------------------


def ask(now: Scenario, chosen: Chosen, run: Run | None) -> Ruling | None:
    """The ruling, or the designed state that says why there is none."""
    try:
        found = rulings.rule(rulings.spec(now, chosen), run)
        panels.decides(partial(rulings.kept, found))
        return found
    except MoEScopeError as error:
        _refused(error)
        return None


def _refused(error: MoEScopeError) -> None:
    """An answer too: which numbers decided it, and what to do."""
    words = str(error)
    if isinstance(error, InfeasibleError):
        st.title(escape(words[:1].upper() + words[1:]), anchor=False)
        st.caption("Take more devices, a narrower format, a shorter context or a smaller batch.")
    else:
        st.title(f"This cannot be decided: {escape(words)}", anchor=False)
        st.caption("Choose a listed device and a mixture whose layers are known, in the sidebar.")


def source(of: Ruling) -> Source:
    """Provenance of every predicted number of a verdict."""
    timed = next(one for one in of.verdict.factors if one.id == "latency")
    return Source("modelled", f"{timed.detail}; {of.verdict.pair.sentence}; rules in data/decide")


def sentence(of: Ruling) -> str:
    """Who wins by how much, on what, and where that ends."""
    found = of.verdict
    loser = found.pair.of("dense" if found.winner == "mixture" else "mixture").name
    spec = found.spec
    many = f"one {spec.hardware}" if spec.devices == 1 else f"{spec.devices} × {spec.hardware}"
    work = spec.workload
    load = f"batch {work.batch}" if work.traffic is None else f"{work.traffic:g} requests/s"
    kind = "Mixture" if found.winner == "mixture" else "Dense"
    near = rulings.nearest(of)
    tail = f"; {near.sentence}" if near else ""
    return (
        f"{kind}, by a margin of {abs(found.margin):.2f}: {found.name} over {loser} on {many} at {load}{tail}"
    )


def numbers(of: Ruling) -> tuple[Number, ...]:
    """Time, cost and memory of both at full size."""
    mixture, dense = of.verdict.case.both
    modelled, spec = source(of), of.verdict.spec
    return (
        Number(
            "Time per token, full size",
            f"{times(mixture.step.seconds / dense.step.seconds)} dense",
            f"mixture {seconds(mixture.step.seconds)}, dense {seconds(dense.step.seconds)}",
            modelled,
        ),
        Number(
            "Cost of a token, full size",
            f"{times(mixture.cost / dense.cost)} dense",
            f"${significant(mixture.cost)} against ${significant(dense.cost)} a million written",
            modelled,
        ),
        Number(
            "Memory, full size",
            f"{times(mixture.need / dense.need)} dense",
            f"mixture {size(mixture.need)}, dense {size(dense.need)} of {size(mixture.usable)}"
            + ("" if spec.devices == 1 else ", fullest device"),
            modelled,
        ),
    )


def margin_number(of: Ruling) -> Number:
    """The margin, and what the error of the predicted times could make of it."""
    found = of.verdict
    held = "holds" if found.firm else "could turn"
    return Number(
        "Margin, full size",
        f"{abs(found.margin):.2f} {found.winner}",
        f"{found.low:+.2f} to {found.high:+.2f} over the error of the times: it {held}",
        source(of),
    )


def card(of: Ruling) -> None:
    """The verdict, the two loudest factors, the best counter-argument, the nearest flip."""
    found = of.verdict
    with panels.aside("Verdict"):
        st.header(f":{COLOURS[found.winner]}[{found.winner.capitalize()}]", anchor=False)
        st.caption(escape(found.pair.sentence))
        side = 1 if found.winner == "mixture" else -1
        ordered = sorted((one for one in found.factors if one.weight), key=lambda one: -side * one.pull)
        st.markdown(f":material/check: {_line(ordered[0])}")
        if side * ordered[-1].pull < 0:
            st.markdown(f":material/close: {_line(ordered[-1])}")
        st.markdown(f":material/forum: **Against it.** {escape(rulings.against(of)[0].sentence)}")
        if not found.firm:
            st.markdown(":material/help: The error of the predicted times could turn it.")


def _line(factor: Factor) -> str:
    return f"**{escape(factor.title)}**: {escape(factor.evidence)}"


# -- the tabs --------------------------------------------------------------------------------------


def pair_card(of: Ruling) -> None:
    """Which two are compared, and by which rule they are taken as equals."""
    found = of.verdict.pair
    with panels.aside("The pair"):
        st.markdown(escape(found.sentence))
        st.caption(escape(f"{found.source}. {found.rule.caveat[:1].upper()}{found.rule.caveat[1:]}."))


def counter_card(of: Ruling) -> None:
    """The strongest counter-argument, always; the others below it."""
    first, *rest = rulings.against(of)
    with panels.aside("The strongest counter-argument"):
        st.markdown(escape(first.sentence))
        for one in rest:
            st.caption(escape(one.sentence))


def flips(of: Ruling) -> None:
    """The margin over one input, and every flip in words."""
    names = rulings.knob_names(of)
    knob = st.segmented_control(
        "Over",
        list(names),
        default=next(iter(names)),
        required=True,
        key="knob",
        bind="query-params",
        format_func=lambda name: names.get(name, name),
    )
    knob = knob if knob in names else next(iter(names))
    panels.show(rulings.curve(of, knob), "over", source(of), caveat="full size; tinted by the answer")
    _flip_lines(rulings.turns(of, knob))
    opened = st.expander("Every input that could flip it", key="every_flip", on_change="rerun")
    if opened.open:
        with opened:
            _flip_lines(rulings.every_turn(of))
            st.caption("Each was found as a root of the margin and judged again on both sides.")


def _flip_lines(found: Sequence[Flip]) -> None:
    if not found:
        st.caption("Nothing here turns the answer inside the range that was searched.")
    for one in found:
        said = f"{one.sentence[:1].upper()}{one.sentence[1:]}"
        st.markdown(f":material/swap_horiz: **{escape(said)}**; now {escape(one.knob.words(one.now))}")


def evidence(of: Ruling) -> None:
    """Each factor's question, numbers, provenance, and what the documents said of it."""
    for one in sorted(of.verdict.factors, key=lambda one: -abs(one.pull)):
        with st.container(border=True, gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{escape(one.title)}** {escape(one.question)}", width="stretch")
                if one.winner:
                    st.badge(one.winner, color=COLOURS[one.winner])  # type: ignore[arg-type]
                panels.badge(Source(one.provenance, one.detail))
            st.markdown(escape(one.evidence[:1].upper() + one.evidence[1:]))
            if one.documents:
                st.caption(escape(f"The documents: {one.documents}. Checked: {one.audit}."))
            for fact in one.facts:
                against = f" Against: {fact.against}." if fact.against else ""
                st.caption(escape(f"{fact.says}. Holds: {fact.holds}.{against} ({fact.source})"))


def weight_sliders(of: Ruling, preset: str) -> None:
    """Every weight, yours to move; the verdict above follows."""
    st.caption("How much each factor counts. The preset sets them; what you move stays until you reset it.")
    columns = st.columns(2)
    usual = rulings.weight_of(preset)
    for index, (name, rule) in enumerate(rules.factors().items()):
        columns[index % 2].slider(
            rule.title,
            0.0,
            3.0,
            float(usual[name]),
            0.1,
            key=_slider_key(preset, name),
            persist_state="session",
            help=escape(rule.question),
        )
    st.button("Reset the weights", icon=":material/restart_alt:", on_click=_reset, args=(preset,))


def _reset(preset: str) -> None:
    for name, usual in rulings.weight_of(preset).items():
        st.session_state[_slider_key(preset, name)] = float(usual)


def hears(run_spec: Any) -> Run | None:
    """The run that a verdict listens to: this question's own, else the nearest there is."""
    with suppress(ConfigError):
        found = data.answer(run_spec) or data.same_question(run_spec) or data.nearest(run_spec)
        return data.run(found) if found else None
    return None
