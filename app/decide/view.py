"""Decide: the parts of the Decide page, some of which the Overview shows too. Choices, answer, evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import streamlit as st

from app import data, panels
from app.claims import frames as claims_frames
from app.claims import view as claims
from app.decide import frames
from app.decide.frames import Ruling
from app.figure import times
from app.panels import Number, Source
from app.sidebar import weight_key
from app.words import escape, seconds, size
from moe_core.decide import rules
from moe_core.decide.clock import Reading
from moe_core.decide.factors import Factor
from moe_core.decide.flips import Flip
from moe_core.decide.headline import answer, headline
from moe_core.decide.limits import Miss
from moe_core.decide.serving import Serving
from moe_core.decide.verdict import HARD, counted
from moe_core.errors import InfeasibleError, MoEScopeError
from moe_core.scenario.answer import energy
from moe_core.scenario.decision import decision
from moe_core.scenario.spec import Scenario
from moe_core.units import significant

HEADS = ":orange[mixture] | :blue[dense] | mixture over dense"
COLOURS = {"mixture": "orange", "dense": "blue"}
# -- the answer ------------------------------------------------------------------------------------


def ask(now: Scenario) -> Ruling | None:
    """The ruling, or the designed state that says why there is none. The same for every session: a link."""
    try:
        found = frames.rule(decision(now), data.hears(now))
        panels.decides(partial(frames.kept, found))
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
    """The answer in plain words, and where it ends."""
    near = frames.nearest(of)
    return headline(of.verdict, () if near is None else (near,))


def numbers(of: Ruling) -> tuple[Number, ...]:
    """Time, cost, memory and the first token of both at full size; none for what does not fit."""
    return tuple(
        _compared(of, label, figure, words)
        for label, figure, words in (
            ("Time per token, full size", lambda one: one.step.seconds, _token),
            ("Cost of a million tokens, full size", lambda one: one.cost, _dollars),
            ("Memory of all devices, full size", lambda one: one.everywhere, _memory),
            ("First token, full size", lambda one: one.first.seconds, _first),
        )
    )


def _compared(
    of: Ruling,
    label: str,
    figure: Callable[[Serving], float | None],
    words: Callable[[Serving], tuple[str, str]],
) -> Number:
    """The mixture's, the dense model's, and one over the other; what is to be known of each in the note."""
    found = of.verdict
    sides = tuple(zip(found.case.both, found.misses, strict=True))
    known = [None if _unfit(missed) else figure(one) for one, missed in sides]
    mixture, dense = known
    ratio = "no ratio" if mixture is None or dense is None else times(mixture / dense)
    said = [("none", missed[0].words) if _unfit(missed) else words(one) for one, missed in sides]
    value = " | ".join([*(short for short, _ in said), ratio])
    notes = list(dict.fromkeys(note for _, note in said))
    return Number(label, value, " | ".join(notes), source(of), HEADS)


def _unfit(missed: Sequence[Miss]) -> bool:
    """Whether there is neither a time nor a price."""
    return any(one.name in HARD for one in missed)


def _token(one: Serving) -> tuple[str, str]:
    return seconds(one.step.seconds), _between(one.step)


def _dollars(one: Serving) -> tuple[str, str]:
    dollars = "no price" if one.cost is None else f"${significant(one.cost)}"
    return dollars, f"prompts included; {energy(one)}"


def _memory(one: Serving) -> tuple[str, str]:
    return size(one.everywhere), f"on {counted(one.devices, one.device.title)}"


def _first(one: Serving) -> tuple[str, str]:
    return seconds(one.first.seconds), _between(one.first)


def _between(found: Reading) -> str:
    """The error of a predicted time: `8.1 to 11.2 ms`."""
    return f"{seconds(found.lower)} to {seconds(found.upper)}"


def card(of: Ruling) -> None:
    """The verdict, the two loudest factors, the best counter-argument, the nearest flip."""
    found = of.verdict
    with panels.aside("Verdict"):
        said = answer(found.winner, found.firm)
        st.header(f":{COLOURS.get(said, 'gray')}[{said.capitalize()}]", anchor=False)
        st.caption(escape(found.pair.sentence))
        side = 1 if found.winner == "mixture" else -1
        ordered = sorted((one for one in found.factors if one.weight), key=lambda one: -side * one.pull)
        st.markdown(f":material/check: {_line(ordered[0])}")
        if side * ordered[-1].pull < 0:
            st.markdown(f":material/close: {_line(ordered[-1])}")
        st.markdown(f":material/forum: **Against it.** {escape(frames.against(of)[0].sentence)}")
        if near := frames.nearest(of):
            st.markdown(f":material/swap_horiz: **What would turn it**: {escape(near.sentence)}")
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
    first, *rest = frames.against(of)
    with panels.aside("The strongest counter-argument"):
        st.markdown(escape(first.sentence))
        for one in rest:
            st.caption(escape(one.sentence))


def flips(of: Ruling) -> None:
    """The margin over one input, and every flip in words."""
    names = frames.knob_names(of)
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
    panels.show(frames.curve(of, knob), "over", source(of), caveat="full size; tinted by the answer")
    _flip_lines(frames.turns(of, knob))
    opened = st.expander("Every input that could flip it", key="every_flip", on_change="rerun")
    if opened.open:
        with opened:
            _flip_lines(frames.every_turn(of))
            st.caption("Each was found as a root of the margin and judged again on both sides.")


def _flip_lines(found: Sequence[Flip]) -> None:
    if not found:
        st.caption("Nothing here turns the answer inside the range that was searched.")
    for one in found:
        said = f"{one.sentence[:1].upper()}{one.sentence[1:]}"
        st.markdown(f":material/swap_horiz: **{escape(said)}**; now {escape(one.knob.words(one.now))}")


def evidence(of: Ruling) -> None:
    """Each factor's question, numbers, provenance, what the documents said of it, and what became of that."""
    known = claims_frames.by_id()
    for one in sorted(of.verdict.factors, key=lambda one: -abs(one.pull)):
        with st.container(border=True, gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{escape(one.title)}** {escape(one.question)}", width="stretch")
                if one.winner:
                    st.badge(one.winner, color=COLOURS[one.winner])  # type: ignore[arg-type]
                panels.badge(Source(one.provenance, one.detail))
            st.markdown(escape(one.evidence[:1].upper() + one.evidence[1:]))
            if one.documents:
                st.caption(escape(f"The documents: {one.documents}."))
            for row in (known[name] for name in one.claims):
                st.caption(f"{claims.badge(row)} {escape(row.sentence)}.")
            for fact in one.facts:
                against = f" Against: {fact.against}." if fact.against else ""
                st.caption(escape(f"{fact.says}. Holds: {fact.holds}.{against} ({fact.source})"))
    panels.link("claims", "All claims of the documents")


def weight_sliders(of: Ruling, preset: str) -> None:
    """Every weight, yours to move; the verdict above follows."""
    st.caption("How much each factor counts. The preset sets them; what you move stays until you reset it.")
    columns = st.columns(2)
    usual = rules.weights(preset)
    for index, (name, rule) in enumerate(rules.factors().items()):
        columns[index % 2].slider(
            rule.title,
            0.0,
            3.0,
            float(usual[name]),
            0.1,
            key=weight_key(preset, name),
            persist_state="session",
            help=escape(rule.question),
        )
    st.button("Reset the weights", icon=":material/restart_alt:", on_click=_reset, args=(preset,))


def _reset(preset: str) -> None:
    for name, usual in rules.weights(preset).items():
        st.session_state[weight_key(preset, name)] = float(usual)
