"""Budget: the parts of the memory page. What is chosen, the answer, the tabs; caches of what they draw."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st

from app import data, panels
from app.asked import pick
from app.figure import Figure, times
from app.memory import charts
from app.panels import Number, Source
from app.words import escape, size
from moe_core.errors import ConfigError, InfeasibleError
from moe_core.formats import BITS, Format
from moe_core.perf.fit import WIDEST, usable
from moe_core.perf.offload import HOST
from moe_core.perf.precision import MIXES
from moe_core.perf.precision import words as forms
from moe_core.perf.training import STATE, Optimizer
from moe_core.scenario import devices as machines
from moe_core.scenario import memory, start
from moe_core.scenario.devices import Device
from moe_core.scenario.memory import WAYS, Case, Plan, Reach
from moe_core.scenario.spec import Scenario
from moe_core.scenario.subject import formats as formats_of
from moe_core.scenario.subject import subject
from moe_core.specs import Precision
from moe_core.units import GIGA, count

FORMATS: tuple[Format, ...] = tuple(BITS)
CACHE: tuple[Format, ...] = ("bf16", "fp16", "fp8", "int8", "int4", "nvfp4", "fp32")
COMPONENTS = {
    "experts": "Routed experts",
    "shared": "Shared experts",
    "attention": "Attention",
    "ffn": "Dense feed-forward",
    "embedding": "Embedding",
    "head": "Output head",
    "router": "Router",
    "norms": "Norms",
    "mixer": "Linear attention, state space",
    "other": "Other",
    "tower": "Vision and audio towers",
}
SCENARIO, MIX, OWN, STORED_KV = "as the scenario", "as the mix", "as served", "as stored"
_PRICES = "device_prices"  # typed by the user, by device
_TYPED = "device_prices_typed_before"  # the same when the table was opened


# -- what is chosen --------------------------------------------------------------------------------


def plan(scenario: Scenario) -> Plan:
    """The pickers under the answer: formats of weights and cache, and the split over devices."""
    mix = pick("Weights", [SCENARIO, *MIXES], "mix", persist_state="session", width=210)
    kv = pick("KV cache", [STORED_KV, *CACHE], "kv_format", persist_state="session", width=110)
    tensor = pick("Tensor parallel", [OWN, *WAYS[:7]], "tensor", persist_state="session", width=120)
    expert = pick("Expert parallel", [OWN, *WAYS], "expert_ways", persist_state="session", width=120)
    own, stored_kv = formats_of(scenario, subject(scenario))
    base = own if mix == SCENARIO else MIXES[mix]
    with st.popover("By component", icon=":material/tune:"):
        st.caption("A format for a component on its own; the rest keep the mix. Scales are counted.")
        chosen = {name: _component(name, words, base) for name, words in COMPONENTS.items()}
    kept = {name: form for name, form in chosen.items() if form is not None}
    ways = [1 if one == OWN else int(one) for one in (tensor, expert)]
    kv = stored_kv if kv == STORED_KV else kv
    return Plan(base.model_copy(update=kept), kv, ways[0], ways[1], own=tensor == expert == OWN)


def _component(name: str, words: str, base: Precision) -> Format | None:
    found = st.selectbox(
        words,
        [MIX, *FORMATS],
        key=f"format_{name}",
        persist_state="session",
        help=f"The mix stores it in {base.of(name)}.",
    )
    return found if found in FORMATS else None


def case(scenario: Scenario, chosen: Plan) -> Case:
    """What is asked; a split that cannot be is named, and one device takes its place."""
    try:
        if chosen.own:
            formats = {"precision": chosen.precision, "kv": chosen.kv}
            return memory.served(data.resolved(scenario).model_copy(update=formats))
        return memory.case(scenario, chosen)
    except InfeasibleError as error:
        st.warning(f"{escape(str(error))}; shown on one device.", icon=":material/call_split:")
        return memory.case(scenario, chosen._replace(tensor=1, expert=1, own=False))


# -- answer ----------------------------------------------------------------------------------------


def source(case: Case) -> Source:
    """Where everything modelled here comes from."""
    return Source("modelled", memory.source(case))


def sentence(one: Case, far: Reach, device: Device) -> str:
    """Fits or not, by what number, and how many devices it takes."""
    where = device.name if one.devices == 1 else f"each of {one.devices:,} × {device.name}"
    words = charts.fits(one.label, one.footprint.total, far.usable, where)
    if far.fits:
        return words
    return (
        f"{words}; it takes {far.parallel.devices} of them"
        if far.parallel
        else f"{words}; {WIDEST} are not enough"
    )


def numbers(one: Case, far: Reach, device: Device, modelled: Source) -> tuple[Number, ...]:
    """Weights, cache, and how far context and batch could go, on as many devices as it takes."""
    counted, held, work = one.model.parameters, one.footprint, one.work
    active = f"{count(counted.total)} parameters, {count(counted.active.incl_embeddings)} active"
    active += f"; in {forms(one.plan.precision)}"
    each = "" if one.devices == 1 else ", a device"
    token = f"{size(one.model.cache.token_bytes(one.plan.kv))} a token, {one.sequences} sequences"
    state = f"; {size(held.state)} of state" if held.state else ""
    elsewhere = not far.fits and far.context is not None
    many = far.parallel.devices if far.parallel and elsewhere else one.devices
    on = f"one {device.name}" if many == 1 else f"{many} × {device.name}"
    context, batch = _limit(far.context, "tokens"), _limit(far.batch, "sequences")
    return (
        Number(f"Weights{each}, full size", size(held.weights_total), active, modelled),
        Number(f"KV cache{each}, full size", size(held.kv_cache), token + state, modelled),
        Number("Longest context, full size", context, f"batch {one.sequences} on {on}", modelled),
        Number("Largest batch, full size", batch, f"{work.context:,} tokens on {on}", modelled),
    )


def _limit(value: int | None, unit: str) -> str:
    if value is None:
        return "does not fit"
    return f"{value:,} {unit}" if value < 1_000_000 else f"over 1 M {unit}"


def reach(one: Case, on: Device) -> Reach:
    """How far it goes on the scenario's hardware."""
    return _reach(repr(one), one, on.capacity)


@st.cache_data(show_spinner=False, max_entries=256)
def _reach(key: str, _one: Case, capacity: float) -> Reach:
    return memory.reach(_one, capacity)


def main(scenario: Scenario, one: Case, on: Device) -> Figure:
    """The mixture, as published if edited, and dense twins against one device."""
    return _main(repr(one), scenario, one, on)


@st.cache_resource(show_spinner=False, max_entries=128)
def _main(key: str, scenario: Scenario, _one: Case, on: Device) -> Figure:
    found = [_one, *memory.rivals(scenario, _one.plan)]
    named = [(each.label, each.footprint) for each in found]
    return charts.budget(memory.rows(named), usable(int(on.capacity)), on.name)


# -- tabs ------------------------------------------------------------------------------------------


def devices(scenario: Scenario, one: Case, modelled: Source) -> None:
    """Every device: how many it takes, how far it goes there, at a price that can be edited."""
    prices = tuple(sorted((memory.listed_prices() | st.session_state.get(_PRICES, {})).items()))
    every = _every(_key(scenario), one.plan, prices)
    figure = _devices(_key(scenario), one.plan, prices, one.label)
    panels.show(figure, "devices", modelled, caveat=f"any number of devices, up to {WIDEST}")
    left, right = panels.pair()
    with left, panels.aside("Your prices"):
        _editor()
        st.caption("Listed prices are a starting point and change weekly: type your own.")
    with right, panels.aside(f"What {one.label} takes of each"):
        st.dataframe(
            every,
            hide_index=True,
            placeholder="–",
            column_config=_TAKES,
            column_order=list(_TAKES),
            alt="Every device: how many are needed, cost an hour, longest context, largest batch",
        )
        st.caption("Context and batch are for that many devices.")


_PRICED: dict[str, Any] = {
    "device": st.column_config.TextColumn("device", pinned=True),
    "price": st.column_config.NumberColumn(
        "$ an hour, each", min_value=0.0, max_value=1e6, format="%.2f", help="Yours to edit"
    ),
    "listed": st.column_config.NumberColumn("as listed", format="%.2f"),
    "gigabytes": st.column_config.NumberColumn("usable, each", format="%.3g GB"),
    "source": "source",
}
_TAKES: dict[str, Any] = {
    "device": st.column_config.TextColumn("device", pinned=True),
    "devices": st.column_config.NumberColumn("needed", format="%d"),
    "cost": st.column_config.NumberColumn("$ an hour, all", format="%.2f"),
    "layout": "layout",
    "context": st.column_config.NumberColumn("longest context", format="localized"),
    "batch": st.column_config.NumberColumn("largest batch", format="localized"),
}


def _editor() -> None:
    """The price list. Nothing in it depends on what is typed into it, or typing would make a new table."""
    if "price_editor" not in st.session_state:  # newly opened: what was typed before is where it starts
        st.session_state[_TYPED] = dict(st.session_state.get(_PRICES, {}))
    known, listed = machines.devices(), memory.listed_prices()
    rows = pd.DataFrame(
        {
            "device": [one.name for one in known],
            "price": [(listed | st.session_state[_TYPED]).get(one.name) for one in known],
            "listed": [listed.get(one.name) for one in known],
            "gigabytes": [usable(int(one.capacity)) / GIGA for one in known],
            "source": [one.source for one in known],
        }
    )
    st.data_editor(
        rows,
        key="price_editor",
        hide_index=True,
        placeholder="–",
        column_config=_PRICED,
        column_order=list(_PRICED),
        disabled=[name for name in _PRICED if name != "price"],
        on_change=_priced,
        args=(tuple(one.name for one in known),),
        alt="Every device: its price an hour, which can be edited, as listed, and usable memory",
    )


def _priced(names: tuple[str, ...]) -> None:
    """Keep edited prices by device; an emptied one is as listed; what is not a price is dropped."""
    typed: dict[str, float] = dict(st.session_state.get(_TYPED, {}))
    for row, change in st.session_state["price_editor"].get("edited_rows", {}).items():
        if "price" not in change or not 0 <= int(row) < len(names):
            continue
        value = change["price"]
        if value is None:
            typed.pop(names[int(row)], None)
        elif isinstance(value, int | float) and 0 <= value <= 1e6 and math.isfinite(value):
            typed[names[int(row)]] = float(value)
    st.session_state[_PRICES] = typed


def _key(scenario: Scenario) -> Scenario:
    """The scenario without what full size does not depend on."""
    return scenario._replace(text=None, hardware="", model="carved", seq=256)


@st.cache_data(show_spinner=False, max_entries=128)
def _every(scenario: Scenario, one: Plan, prices: tuple[tuple[str, float], ...]) -> pd.DataFrame:
    return memory.on_every(
        memory.case(scenario, one._replace(tensor=1, expert=1)), machines.devices(), dict(prices)
    )


@st.cache_resource(show_spinner=False, max_entries=128)
def _devices(scenario: Scenario, one: Plan, prices: tuple[tuple[str, float], ...], label: str) -> Figure:
    return charts.devices(_every(scenario, one, prices), label)


def formats(scenario: Scenario, one: Case, on: Device, modelled: Source) -> None:
    """The same model in every mix of formats."""
    panels.show(_formats(_key(scenario), one.plan, on), "formats", modelled, caveat="scales counted")
    st.caption(
        "mxfp4: one 8-bit exponent for 32 weights, 4.25 bits each. nvfp4: one fp8 scale for 16, 4.5 bits. "
        "int4: one fp16 scale for 128. Which tensors stay in 16 bits is part of a published mix."
    )


@st.cache_resource(show_spinner=False, max_entries=128)
def _formats(scenario: Scenario, one: Plan, on: Device) -> Figure:
    rows, room = memory.by_format(memory.case(scenario, one)), usable(int(on.capacity))
    return charts.budget(rows, room, on.name, charts.smallest(rows, room, on.name))


def split(scenario: Scenario, one: Case, on: Device, modelled: Source) -> None:
    """What the fullest device holds in every layout."""
    panels.show(_split(_key(scenario), one.plan, on), "split", modelled, caveat="the fullest device of each")
    st.caption(
        "Tensor parallel splits attention, feed-forward and tables; KV heads not below one, a latent never. "
        "Expert parallel gives each device whole experts and its share of the sequences; the rest is copied."
    )


@st.cache_resource(show_spinner=False, max_entries=128)
def _split(scenario: Scenario, one: Plan, on: Device) -> Figure:
    rows = memory.by_split(memory.case(scenario, one._replace(tensor=1, expert=1)))
    room = usable(int(on.capacity))
    return charts.budget(rows, room, on.name, charts.first_split(rows, room, on.name))


def cache(scenario: Scenario, one: Case, modelled: Source) -> None:
    """The cache against the context, beside other kinds of attention."""
    panels.show(
        _contexts(_key(scenario), one.plan), "contexts", modelled, caveat="one sequence; dashed: what if"
    )


@st.cache_resource(show_spinner=False, max_entries=128)
def _contexts(scenario: Scenario, one: Plan) -> Figure:
    rows = memory.by_context(memory.case(scenario, one._replace(tensor=1, expert=1)))
    return charts.contexts(rows, scenario.context, one.kv)


def offload(scenario: Scenario, one: Case, on: Device, modelled: Source) -> None:
    """Experts in the host's memory: bytes saved, time a step waits."""
    link = memory.host_link(on)
    if link is None:
        st.info(
            "The link to this machine's host memory is not known; choose a listed device.",
            icon=":material/link:",
        )
        return
    known = data.resolved(scenario)
    load = known.load
    try:
        held, waits = _offload(_key(scenario), one.plan, on, link, load)
    except ConfigError as error:
        st.info(escape(f"{error}."), icon=":material/info:")
        return
    heard = f"as recorded ({known.heard})" if load else "taken as even"
    detail = (
        f"{modelled.detail}; popularity of the experts {heard}; link to the host {size(link)}/s, {on.source}"
    )
    source = Source("modelled", f"{detail}; memory of the host {size(HOST)}/s, two channels of DDR5-5600")
    left, right = panels.pair()
    with left:
        panels.show(held, "offload", source, caveat=f"one {on.name}")
    with right:
        panels.show(
            waits, "waits", source, caveat="lower bounds: link and memory at their peak, nothing kept"
        )


@st.cache_resource(show_spinner=False, max_entries=128)
def _offload(
    scenario: Scenario, one: Plan, on: Device, link: float, load: tuple[float, ...] | None
) -> tuple[Figure, Figure]:
    rows = memory.offloaded(memory.case(scenario, one._replace(tensor=1, expert=1)), link, load)
    held = charts.offload(rows, usable(int(on.capacity)), on.name, scenario.batch)
    return held, charts.waiting(rows, scenario.batch)


def commands(scenario: Scenario, one: Case) -> None:
    """The command line of each engine that serves it so, or why it cannot."""
    if one.model.architecture is None:
        st.info("Its layers are not known here, so no layout can be started.", icon=":material/info:")
        return
    found = memory.launch(data.resolved(scenario), one)
    st.caption(f"{escape(found.words)}, {one.sequences:,} sequences of {one.work.context:,} tokens")
    for engine in start.starts(found):
        many = f", {engine.instances} instances" if engine.instances > 1 else ""
        st.markdown(f"**{engine.engine}**{many}")
        if engine.command is None:
            st.caption(f"Not so: {escape(engine.why)}.")
        else:
            st.code(engine.command, language="bash", wrap_lines=True)
    st.caption("Options as each project documents them: data/engines.toml says where.")


def training(scenario: Scenario, one: Case, on: Device, modelled: Source) -> None:
    """What training adds: gradients, optimizer, saved activations."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        optimizer = pick("Optimizer", list(STATE), "optimizer", persist_state="session", width=160)
        gradients = pick("Gradients", ["bf16", "fp32"], "gradients", persist_state="session", width=120)
        again = st.toggle("Recompute activations", value=True, key="recompute", persist_state="session")
    figure = _training(_key(scenario), one.plan, on, optimizer, gradients, bool(again))
    panels.show(figure, "training", modelled, caveat="bf16 weights; all of it together, before any split")
    whole = float(figure.data[figure.data["name"].str.startswith("train")]["bytes"].sum())
    least = math.ceil(whole / usable(int(on.capacity)))
    st.caption(
        f"Split evenly, as ZeRO stage 3 does, it takes {least:,} × {escape(on.name)} or more, on batches of "
        f"{one.work.batch} × {one.work.context:,} tokens."
    )


@st.cache_resource(show_spinner=False, max_entries=128)
def _training(
    scenario: Scenario, one: Plan, on: Device, optimizer: Optimizer, gradients: Format, again: bool
) -> Figure:
    asked = memory.case(scenario, one._replace(tensor=1, expert=1))
    held = memory.trained(asked, optimizer, gradients, again)
    rows = memory.rows([(f"train with {optimizer}", held), ("serve", asked.footprint)])
    title = f"Training it takes {times(held.total / asked.footprint.total)} the memory of serving it"
    return charts.budget(rows, usable(int(on.capacity)), on.name, title)


def device_source(device: Device) -> Source:
    """Where a device's capacity comes from."""
    return Source("measured here" if device.kind == "measured here" else "published", device.source)
