"""Compare, forms: add a scenario, change or remove one, save it, put all of them into a review."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from urllib.parse import urlencode

import streamlit as st

from app import data, devices, shelf
from app.compare import view
from app.words import escape
from moe_core import registry
from moe_core.errors import ConfigError
from moe_core.formats import BITS
from moe_core.perf.precision import MIXES
from moe_core.report import answer
from moe_core.report.side import AIMS, LETTERS, Side, labels, link, of, of_case, own_name
from moe_core.review import Review
from moe_core.scenario.link import KNOBS
from moe_core.scenario.link import parameters as link_of
from moe_core.scenario.resolved import Resolved
from moe_core.scenario.spec import AUTO, POWERS, Scenario
from moe_core.specs import MOST_TOKENS
from moe_core.store import reviews, scenarios

_FROM = ("The sidebar", "A model", "Saved", "A link")


def first(scenario: Scenario) -> None:
    """The page's beginning: the ways to a first scenario, open."""
    with st.container(border=True):
        _add([], scenario)
    st.button(
        "Show me an example", key="compare_example", icon=":material/play_arrow:", type="tertiary",
        help="Mixtral-8x7B against Llama-2-70B on the sidebar's device and work.",
        on_click=shelf.attempt_quietly, args=(partial(_example, scenario),),
    )  # fmt: skip


def _example(scenario: Scenario) -> None:
    """A mixture and the dense model its makers set beside it."""
    said = {name: value for name, value in link_of(scenario).items() if name not in (*KNOBS, "rival")}
    view.put([of({**said, "architecture": name}, view.here()) for name in ("Mixtral-8x7B", "Llama-2-70B")])


def bar(sides: Sequence[Side], scenario: Scenario) -> None:
    """Add one, change or remove one."""
    with st.container(horizontal=True, gap="small"):
        if len(sides) < len(LETTERS):
            with st.popover("Add a scenario", icon=":material/add:", key="compare_add"):
                _add(sides, scenario)
        with st.popover("Change or remove", icon=":material/edit:", key="compare_change"):
            _change(sides)


# -- add -------------------------------------------------------------------------------------------


def _add(sides: Sequence[Side], scenario: Scenario) -> None:
    where = st.segmented_control("Add from", _FROM, default=_FROM[0], required=True, key="compare_from")
    {
        "A model": partial(_add_model, sides, scenario),
        "Saved": partial(_add_saved, sides),
        "A link": partial(_add_link, sides),
    }.get(str(where), partial(_add_sidebar, sides, scenario))()


def _add_sidebar(sides: Sequence[Side], scenario: Scenario) -> None:
    """The scenario in the sidebar as it stands now."""
    with st.form("compare_sidebar", border=False):
        name = st.text_input("Name", max_chars=80, placeholder="by itself")
        if st.form_submit_button("Add the sidebar's scenario", type="primary"):
            shelf.attempt(lambda: view.put([*sides, sidebar(name, scenario)]))


def sidebar(name: str, scenario: Scenario) -> Side:
    """The sidebar's scenario as a side, at its price. Raises ConfigError."""
    said = link_of(scenario)
    if scenario.own is None:
        return of({**said, "name": name}, view.here())
    return of_case(name, data.resolved(scenario), said)


def _add_model(sides: Sequence[Side], scenario: Scenario) -> None:
    """Any published model, dense ones too, on the sidebar's device and work unless said otherwise."""
    with st.form("compare_model", border=False):
        base = data.resolved(scenario)
        said = _fields(base, f"compare_new_{base.fingerprint()[:8]}", "")
        if st.form_submit_button("Add it", type="primary"):
            shelf.attempt(lambda: view.put([*sides, of(said, view.here())]))


def _add_saved(sides: Sequence[Side]) -> None:
    kept = shelf.names()
    if not kept:
        st.caption("No scenario is saved yet: compare one, then save it below.")
        return
    with st.form("compare_saved", border=False):
        which = st.selectbox("Saved scenario", list(kept), format_func=lambda one: kept[one])
        if st.form_submit_button("Add it", type="primary") and which:
            shelf.attempt(lambda: view.put([*sides, saved(which)]))


def saved(scenario_id: str) -> Side:
    """A saved scenario as a side. Raises ConfigError."""
    case = scenarios.read(data.door().store, scenario_id).case
    return of_case(case.name, Resolved.of(case.resolved), case.parameters)


def _add_link(sides: Sequence[Side]) -> None:
    with st.form("compare_link", border=False):
        text = st.text_area("A link of this dashboard, of any page", max_chars=60_000, height=100)
        if st.form_submit_button("Add what it holds", type="primary"):
            shelf.attempt(lambda: view.put([*sides, *view.read(text)]))


# -- change ----------------------------------------------------------------------------------------


def _change(sides: Sequence[Side]) -> None:
    names = list(labels(sides))
    at = st.selectbox("Which", range(len(sides)), format_func=lambda one: names[one], key="compare_which")
    if at is None or at >= len(sides):
        return
    side = sides[at]
    with st.form(f"compare_edit_{at}_{side.case.fingerprint()[:8]}", border=False):
        said = _fields(side.case, f"compare_{at}_{side.case.fingerprint()[:8]}", own_name(side) or "", side)
        with st.container(horizontal=True):
            change = st.form_submit_button("Change it", type="primary")
            remove = st.form_submit_button("Remove it", icon=":material/remove:")
    if change:
        shelf.attempt(lambda: view.put([*sides[:at], of(said, view.here()), *sides[at + 1 :]]))
    if remove:
        shelf.attempt(lambda: view.put([*sides[:at], *sides[at + 1 :]]))


def _fields(case: Resolved, key: str, name: str, side: Side | None = None) -> dict[str, str]:
    """A scenario's fields as parameters of a link; what a browser sends is checked when they are read."""
    kept = {} if side is None else side.parameters
    said = {field: kept[field] for field in AIMS if field in kept}
    said["name"] = st.text_input("Name", name, max_chars=80, key=f"{key}_name", placeholder="by itself")
    said |= _model(case, key, kept.get("own", ""))
    left, right = st.columns(2)
    with left:
        said |= _work(case, key)
    with right:
        said |= _ways(case, key, kept.get("precision", ""))
    if said["hardware"] == case.hardware and "capacity" in kept:
        said["capacity"] = kept["capacity"]
    return said


def _model(case: Resolved, key: str, own: str) -> dict[str, str]:
    """A published model, or the one that travels in the link."""
    models = [*(["(as it is)"] if own else []), *registry.names()]
    model = case.architecture.name if case.architecture else str(case.record)
    start = 0 if own else models.index(model) if model in models else 0
    picked = st.selectbox("Model", models, index=start, key=f"{key}_model")
    return {"own": own, "architecture": model} if picked == "(as it is)" else {"architecture": str(picked)}


def _work(case: Resolved, key: str) -> dict[str, str]:
    """Device, work and price."""
    known = list(dict.fromkeys((*devices.choices(), case.hardware)))
    place = known.index(case.hardware)
    read = case.context - case.write if case.prompt is None else case.prompt
    cached = max(case.context - case.write - read, 0)
    return {
        "hardware": str(st.selectbox("Device", known, index=place, key=f"{key}_hardware")),
        "batch": _count("Batch (sequences)", case.batch, f"{key}_batch"),
        "traffic": _limit("or requests a second", case.traffic, f"{key}_traffic"),
        "prompt": _count("Prompt (tokens)", max(read, 1), f"{key}_prompt"),
        "answer": _count("Answer (tokens)", case.write, f"{key}_answer"),
        "cached": _count("Cached before (tokens)", cached, f"{key}_cached", 0),
        "price": _limit("Dollars a device and hour", case.price, f"{key}_price", "as listed"),
    }


def _ways(case: Resolved, key: str, form: str) -> dict[str, str]:
    """Formats, number of devices and targets."""
    forms, kinds, now = list(dict.fromkeys((*BITS, *MIXES))), list(BITS), form or case.precision.default
    forms += [now] if now not in forms else []
    asked = case.devices if case.parallel.devices == 1 else case.parallel.devices
    many = [AUTO, *map(str, sorted({*POWERS, *([] if asked is None else [asked])}))]
    return {
        "precision": str(st.selectbox("Weights in", forms, index=forms.index(now), key=f"{key}_precision")),
        "kv": str(st.selectbox("KV cache in", kinds, index=kinds.index(case.kv), key=f"{key}_kv")),
        "many": str(
            st.selectbox(
                "How many", many, index=many.index(AUTO if asked is None else str(asked)), key=f"{key}_many",
                help="auto: its own fewest that hold the batch, keep the targets and carry the traffic.",
            )
        ),
        "latency_ms": _limit("Target a token, ms", case.latency_ms, f"{key}_latency_ms"),
        "ttft_ms": _limit("Target first token, ms", case.ttft_ms, f"{key}_ttft_ms"),
    }  # fmt: skip


def _limit(label: str, value: float | None, key: str, placeholder: str = "none") -> str:
    """A number above zero, or nothing."""
    return st.text_input(label, "" if value is None else f"{value:g}", placeholder=placeholder, key=key)


def _count(label: str, value: int, key: str, least: int = 1) -> str:
    return str(int(st.number_input(label, least, MOST_TOKENS, value, key=key)))


# -- keep ------------------------------------------------------------------------------------------


def keep(sides: Sequence[Side]) -> None:
    """Save one with a name and a note; put all of them into a review."""
    left, right = st.columns(2)
    with left:
        _save(sides)
    with right:
        _review(sides)


def _save(sides: Sequence[Side]) -> None:
    names, kept = list(labels(sides)), {"": "a new one", **shelf.names()}
    with st.form("compare_save"):
        st.markdown("**Save a scenario**")
        at = st.selectbox("Which", range(len(sides)), format_func=lambda one: names[one])
        where = st.selectbox("Save it as", list(kept), format_func=lambda one: kept[one])
        name = st.text_input("Name", max_chars=80, placeholder="as it is called here")
        note = st.text_area("Note", max_chars=5_000, height=80)
        author = st.text_input("Your name", st.session_state.get(shelf.AUTHOR, ""), max_chars=80)
        if st.form_submit_button("Save the scenario", icon=":material/bookmark:"):
            st.session_state[shelf.AUTHOR] = author
            shelf.attempt(lambda: _kept(sides, at or 0, where or "", name, note))


def _kept(sides: Sequence[Side], at: int, where: str, name: str, note: str) -> None:
    """A new scenario, or the next version of one; here it has the new name too."""
    store, author = data.door().store, st.session_state.get(shelf.AUTHOR, "")
    side = sides[at]._replace(name=name.strip() or sides[at].name)
    base = scenarios.read(store, where).latest if where else 0
    scenarios.save(store, side.kept(note), author, where or None, base)
    view.put([*sides[:at], side, *sides[at + 1 :]])


def _review(sides: Sequence[Side]) -> None:
    table = reviews.listing(data.door().store)
    titles = {str(row["review_id"]): str(row["title"]) for row in table.to_dict("records")}
    with st.form("compare_review"):
        st.markdown("**Put them into a review**")
        which = st.selectbox(
            "Review", ["", *titles], format_func=lambda one: titles[one] if one else "a new one"
        )
        title = st.text_input("Title of a new one", max_chars=200)
        question = st.text_area("Its question", max_chars=1_000, height=80)
        author = st.text_input("Your name", st.session_state.get(shelf.AUTHOR, ""), max_chars=80)
        if st.form_submit_button("Put them there", icon=":material/gavel:"):
            st.session_state[shelf.AUTHOR] = author
            shelf.attempt(lambda: _reviewed(sides, which or "", title, question))
    done = st.session_state.pop("compare_reviewed", None)
    if done:
        st.success(f"The review “{escape(done)}” has them; open it on Reviews.", icon=":material/check:")


def _reviewed(sides: Sequence[Side], which: str, title: str, question: str) -> None:
    """All of them in a new review with the answer as its note, or added to one that is there."""
    store, author = data.door().store, st.session_state.get(shelf.AUTHOR, "")
    if not which:
        said = f"{answer.sentence(labels(sides))}.\n\nThe comparison: /compare?{_query(sides)}"
        made = Review.parse({"title": title, "question": question, "notes": said})
        for side in sides:
            made = made.with_case(side.kept())
        st.session_state["review_next"] = reviews.create(store, made, author)
        st.session_state["compare_reviewed"] = title
        return
    found = reviews.read(store, which)
    changed = found.review
    if len(changed.scenarios) + len(sides) > len(LETTERS):
        raise ConfigError(
            f"scenarios ({len(changed.scenarios)} there, {len(sides)} here): a review holds {len(LETTERS)}"
        )
    for side in sides:
        changed = changed.with_case(side.kept())
    reviews.save(store, which, changed, author, base=found.version)
    st.session_state["review_next"], st.session_state["compare_reviewed"] = which, changed.title


def _query(sides: Sequence[Side]) -> str:
    return urlencode(link(sides))
