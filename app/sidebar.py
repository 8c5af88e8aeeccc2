"""Sidebar: the scenario's widgets, in the order of a question. They live in the URL and return a `Scenario`.

Widgets offer only what is possible, but a URL or a forged message may hold anything: what cannot be
used is named in one sentence (field, value, rule), and a default takes its place in sight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from app import data, devices, glossary, models, options
from app.text import own_text
from app.words import escape
from moe_core.decide import rules
from moe_core.errors import ConfigError
from moe_core.scenario import link, spec
from moe_core.scenario.decision import dense_models
from moe_core.scenario.spec import (
    ARCHITECTURE,
    AUTO,
    DEFAULTS,
    HARDWARE,
    NUMBERS,
    OLD,
    PRESET,
    RULES,
    WORDS,
    Scenario,
)

STATE = "scenario_now"
_URL = "scenario_url_notices"
_NOTICES = "scenario_place_of_notices"
_SENT = "scenario_link_sent_on"
_PAST, _MOST_PAST = "scenario_past", 50  # for Undo
_UNDONE = "scenario_undone"
_KNOBS = ("experts", "top_k", "shared")
_OWN_LENGTH = "length_"  # of a link, beside the slider's choices


def current() -> Scenario:
    """The scenario of this rerun; the entry point has drawn the sidebar before any page runs."""
    found: Scenario = st.session_state[STATE]
    return found


def sidebar() -> None:
    """Draw the widgets, say what could not be used, and remember the scenario for the page."""
    architectures = (*data.architectures(), *models.usable())
    if _URL not in st.session_state:
        _adopt_url(architectures)
    with st.sidebar:
        st.session_state[_NOTICES] = st.container()
        for sentence in st.session_state[_URL]:
            _warn(sentence)
        glossary.button()
        values = _start() | _mixture(architectures)
        values |= _against() | _work() | _machines() | _targets(values["preset"])
        values |= _test_model(values)
        found = Scenario(**values)
        _remember(found)
        _foot(found)


def notice(sentence: str) -> None:
    """What a page could not use of the URL: it stands above the scenario until the user moves on."""
    if sentence not in st.session_state[_URL]:
        st.session_state[_URL].append(sentence)
        _warn(sentence)


def _warn(sentence: str) -> None:
    st.session_state[_NOTICES].warning(escape(sentence), icon=":material/link_off:")


def _remember(found: Scenario) -> None:
    previous = st.session_state.get(STATE)
    if previous is not None and previous != found:
        st.session_state[_URL] = []  # the user moved on
        if not st.session_state.get(_UNDONE):
            past = [*st.session_state.get(_PAST, ()), link.parameters(previous)]
            st.session_state[_PAST] = past[-_MOST_PAST:]
    st.session_state[_UNDONE] = False
    st.session_state[STATE] = found


def redirect(page: StreamlitPage) -> None:
    """Send a link to the address that the widgets understand: theirs are an option's words, ours its name.

    Streamlit clears from the address what is no option, and a page loaded again would have lost it.
    """
    if _URL in st.session_state or st.session_state.get(_SENT):
        return
    asked = {key: st.query_params.get_all(key) for key in st.query_params}
    found = _address(asked)
    if found != asked:
        st.session_state[_SENT] = True  # once, whatever comes of it
        st.switch_page(page, query_params=found)


def _address(asked: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Parameters of any link, also an older one, as the widgets write them."""
    found = dict(asked)
    if any(field in asked for field in OLD):
        modern = link.modern({field: _plain(field, said[-1]) for field, said in asked.items() if said})
        found = {field: said for field, said in asked.items() if field not in (*link.FIELDS, *OLD)}
        found |= {field: [value] for field, value in modern.items()}
    for field in options.WORDS.keys() & found.keys():
        name = _plain(field, found[field][-1]) if len(found[field]) == 1 else None
        if name in options.named(field):
            found[field] = [options.WORDS[field](name)]
    return found


def _adopt_url(architectures: tuple[str, ...]) -> None:
    """The first look at the URL: what cannot be used is named."""
    asked = {key: st.query_params.get_all(key) for key in st.query_params}
    plain = {field: [_plain(field, value) for value in values] for field, values in asked.items()}
    name = plain.get("architecture", [""])[-1]
    published = models.mixture_of(name if name in architectures else architectures[0])
    names: dict[str, tuple[str, ...]] = {
        **{
            "architecture": architectures,
            "hardware": devices.choices(),
        },
        "rival": (AUTO, *RULES, *dense_models()),
        "load": options.loads(),
        **{field: tuple(map(str, (own, *spec.options(field, own)))) for field, own in published.items()},
        **_lengths({field: said[-1] for field, said in asked.items() if said}),
    }
    said = {field: texts[-1] for field, texts in plain.items() if texts}
    st.session_state[_URL] = [*spec.read(plain, names), *_weigh(said)]
    preset = plain.get("preset", [PRESET])[-1]
    if preset in rules.presets() and preset != PRESET:  # a link that names it alone means all of it
        for field, value in spec.brings(preset).items():
            if field not in asked:
                st.session_state[field] = value
    for field in options.WORDS.keys() & asked.keys():  # an address has an option's words, a link its name
        if plain[field] and plain[field][-1] in names.get(field, WORDS.get(field, ())):
            st.session_state[field] = plain[field][-1]


def _weigh(values: Mapping[str, Any]) -> list[str]:
    """Set the sliders of a link's weights; the sentence that says why they cannot be used."""
    try:
        found = link.weights(str(values.get("weights", "")))
    except ConfigError as error:
        return [f"{error}; the preset's are used"]
    preset = values.get("preset", PRESET)
    for name, weight in found:
        st.session_state[weight_key(preset if preset in rules.presets() else PRESET, name)] = float(weight)
    return []


def _lengths(values: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Remember a length that is no choice of its slider; the choices, that among them, the default first."""
    found = {}
    for field in spec.LENGTHS:
        own = spec.between(field, values.get(field, ""))
        if own is not None:
            st.session_state[_OWN_LENGTH + field] = own
            found[field] = tuple(map(str, (DEFAULTS[field], *spec.options(field, own))))
    return found


def _plain(field: str, value: str) -> str:
    """The name of an option whose words stand in the address bar."""
    words = options.WORDS.get(field)
    return next((name for name in options.named(field) if words and words(name) == value), value)


# -- start from, mixture, against --------------------------------------------------------------------


def _start() -> dict[str, Any]:
    preset = _pick(
        "Start from", "preset", WORDS["preset"], options.preset, _adopt_preset,
        "Kinds of work. Choosing one sets batch, prompt, answer, targets and weights below.",
    )  # fmt: skip
    return {"preset": preset}


def _adopt_preset() -> None:
    """A newly chosen kind of work brings its own batch and lengths, and no targets of one's own."""
    preset = st.session_state["preset"]
    if preset in rules.presets():
        _set(dict.fromkeys(NUMBERS[:3]) | spec.brings(preset))


def _mixture(architectures: tuple[str, ...]) -> dict[str, Any]:
    """Which mixture, and its experts: as published until a knob is moved."""
    st.markdown("**Mixture**")
    ordered = sorted(architectures, key=str.lower)
    chosen = st.selectbox(
        "Mixture",
        ordered,
        index=ordered.index(architectures[0]),
        key="architecture",
        bind="query-params",
        format_func=options.listed,
        on_change=_reset_knobs,
        label_visibility="collapsed",
        help="A published model, or one of your own: the Architectures page imports and edits them.",
    )
    name = chosen if chosen in ordered else architectures[0]
    own = models.mine().get(name)
    values: dict[str, Any] = {"architecture": name, "own": own.architecture if own else None}
    published = models.mixture_of(name)
    for line in models.about(name):
        st.caption(escape(line))
    if not published or (own is None and not models.editable(name)):
        st.caption("Its layers have no closed form here, so its experts stay as they are.")
        return values
    for field, label in zip(_KNOBS, ("Experts", "Experts per token", "Shared experts"), strict=True):
        values[field] = _knob(field, label, published[field])
    values["top_k"], notice = spec.clamp_top_k(values["top_k"], values["experts"])
    if notice:
        st.warning(escape(notice), icon=":material/vertical_align_top:")
    if any(values[field] != published[field] for field in _KNOBS):
        words = f"Reset to published: {spec.describe(*published.values())}"
        st.button(words, key="reset_knobs", icon=":material/restart_alt:", on_click=_reset_knobs)
    return values


def _knob(field: str, label: str, published: int) -> int:
    choices = spec.options(field, published)
    value = st.select_slider(
        label,
        choices,
        value=published,
        key=field,
        bind="query-params",
        help=f"As published: {published}",
    )
    return value if value in choices else published


def _reset_knobs() -> None:
    """The knobs at the published values of the mixture that is chosen."""
    _set(models.mixture_of(st.session_state["architecture"]))


def _against() -> dict[str, Any]:
    choices = (AUTO, *RULES, *dense_models())
    rival = _pick(
        "Against the dense model", "rival", choices, options.rival, None,
        "Held fixed while the mixture's knobs move. A rule finds it for the mixture as published.",
    )  # fmt: skip
    return {"rival": rival}


# -- work, machines, targets -------------------------------------------------------------------------


def _work() -> dict[str, Any]:
    st.markdown("**Work**")
    traffic = _number("traffic", "Requests a second", "none: the batch is fixed")
    values = {
        "batch": _slider("batch", "Batch: sequences at once", disabled=traffic is not None),
        "prompt": _slider("prompt", "Prompt tokens"),
        "answer": _slider("answer", "Answer tokens"),
        "cached": _slider("cached", "Tokens in the cache before"),
    }
    return {**values, "traffic": traffic}


def _machines() -> dict[str, Any]:
    st.markdown("**Machines**")
    known = devices.choices()
    hardware = st.selectbox("Device", known, key="hardware", bind="query-params")
    devices.own_device()
    many = _pick(
        "How many for each model", "many", WORDS["many"], options.many, None,
        "As few as hold it: each model has its own number, planned anew at every batch. Or an equal number.",
    )  # fmt: skip
    precision = _pick(
        "Weights", "precision", WORDS["precision"], options.precision, None,
        "As stored: what each model's makers publish. The test model takes what is fastest here.",
    )  # fmt: skip
    return {
        "hardware": hardware if hardware in known else known[0],
        "devices": None if many == AUTO else int(many),
        "precision": precision,
    }


def _targets(preset: str) -> dict[str, Any]:
    work = rules.preset(preset).workload
    with st.expander("Targets, money, team", icon=":material/tune:"):
        found: dict[str, Any] = {}
        for name, label in (
            ("latency_ms", "Target, ms a token"),
            ("ttft_ms", "Target, ms to the first token"),
        ):
            found[name] = _number(name, label, f"{work[name]:g}, as the preset" if name in work else "none")
        found["budget"] = _number("budget_usd", "Budget, $ a million tokens written", "none")
        found["price"] = _number("price", "Price of a device, $ an hour", "as listed") or _listed_price()
        found["link_gbs"] = _number(
            "link_gbs", "Link between devices, GB/s both ways", "as the device has it"
        )
        task = _pick("Task", "task", WORDS["task"], options.task)
        found["task"] = None if task == AUTO else task
        found["training"] = _pick("The team trains", "training", WORDS["training"], str)
        found["skill"] = _pick("It has trained routers", "skill", WORDS["skill"], options.WORDS["skill"])
    return {**found, "weights": weights(preset)}


def _listed_price() -> float | None:
    """What the price list on Memory says of this device, where it was edited there."""
    known: dict[str, float] = st.session_state.get("device_prices", {})
    return known.get(st.session_state.get("hardware", ""))


def weights(preset: str) -> tuple[tuple[str, float], ...]:
    """The factors' weights that were moved away from the preset's, on Decide."""
    found = []
    for name, usual in rules.weights(preset).items():
        value = st.session_state.get(weight_key(preset, name), usual)
        if isinstance(value, int | float) and value != usual:
            found.append((name, float(value)))
    return tuple(found)


def weight_key(preset: str, name: str) -> str:
    """The state of one weight's slider."""
    return f"weight_{preset}_{name}"


# -- what runs here ----------------------------------------------------------------------------------


def _test_model(values: dict[str, Any]) -> dict[str, Any]:
    """The small model that is run for real: which one, on which text."""
    with st.expander("What runs here", icon=":material/memory:"):
        model = st.segmented_control(
            "Test model",
            WORDS["model"],
            default=DEFAULTS["model"],
            required=True,
            key="model",
            bind="query-params",
            format_func=options.WORDS["model"],
            help="Carved: a trained dense model, cut into the mixture without training: any shape, at a "
            "loss. Trained: the nearest of a set of mixtures that were trained from scratch and alike, each "
            "with dense models of equal active and of equal total size. Trained, larger: one mixture that "
            "has its own experts.",
        )
        model = model if model in WORDS["model"] else DEFAULTS["model"]
        st.caption(escape(link.tested(Scenario(**values, model=model))))
        seq = _slider("seq", "Bytes a sequence")
        text = own_text()
        load = _pick(
            "Load on the experts", "load", options.loads(), options.load, None,
            "How often each expert is chosen at full size: as a real model was served, where it has as many "
            "experts and top-k; else as the test model records it. `import-trace` takes in a trace of yours.",
        )  # fmt: skip
    return {"model": model, "seq": seq, "text": text, "load": load}


# -- foot --------------------------------------------------------------------------------------------


def _foot(found: Scenario) -> None:
    """Copy link, Undo, Reset."""
    past: list[dict[str, str]] = st.session_state.get(_PAST, [])
    with st.container(horizontal=True, gap="small"):
        with st.popover("Copy link", icon=":material/link:"):
            st.code(f"/?{urlencode(link.spoken(found))}", language=None, wrap_lines=True)
            st.caption("Everything in this sidebar is in it, but your own text.")
        st.button(
            "Undo", key="scenario_undo", icon=":material/undo:", on_click=_undo,
            args=tuple(past[-1:]), disabled=not past,
        )  # fmt: skip
        st.button("Reset", key="scenario_reset", icon=":material/restart_alt:", on_click=_reset)


def _undo(before: dict[str, str]) -> None:
    """The button carries where it goes: a click may arrive twice, once with a part that draws itself anew."""
    past = st.session_state.get(_PAST, [])
    if past[-1:] == [before]:
        st.session_state[_PAST] = past[:-1]
    st.session_state[_UNDONE] = True
    _set(before)


def _reset() -> None:
    """The first screen again."""
    _set(link.parameters(Scenario()))


def open_link(parameters: dict[str, str]) -> None:
    """Set the sidebar's widgets to a saved scenario, as far as their choices go; the rest is unset."""
    silent = {name: DEFAULTS.get(name, "") for name in link.FIELDS if name not in link.KNOBS}
    silent |= {"architecture": ARCHITECTURE, "hardware": HARDWARE}
    _set({**silent, **link.modern(parameters)})


def _set(values: dict[str, Any]) -> None:
    """Set widgets by the names and texts of a link; a mixture's own knobs follow it unless they are named."""
    name = values.get("architecture")
    if name in (*data.architectures(), *models.usable()):
        values = models.mixture_of(name) | values
    _lengths(values)
    _weigh(values)
    for field, value in ((field, value) for field, value in values.items() if field != "weights"):
        st.session_state[field] = link.typed(field, value)


def _slider(field: str, label: str, disabled: bool = False) -> int:
    """A slider over the choices of a field. What comes back is checked: the browser may lie."""
    choices, usual = spec.options(field, st.session_state.get(_OWN_LENGTH + field)), DEFAULTS[field]
    value = st.select_slider(label, choices, value=usual, key=field, bind="query-params", disabled=disabled)
    return value if value in choices else int(DEFAULTS[field])


def _number(key: str, label: str, placeholder: str) -> float | None:
    value = st.number_input(
        label, 1e-3, 1e8, value=None, placeholder=placeholder, key=key, bind="query-params"
    )  # fmt: skip
    return value if isinstance(value, int | float) and 0 < value <= 1e8 else None


def _pick(
    label: str,
    key: str,
    choices: tuple[str, ...],
    words: Callable[[str], str],
    on_change: Callable[[], None] | None = None,
    help: str | None = None,
) -> Any:
    usual = DEFAULTS[key]
    found = st.selectbox(
        label,
        choices,
        index=choices.index(usual),
        key=key,
        bind="query-params",
        format_func=words,
        on_change=on_change,
        help=help,
    )
    return found if found in choices else usual
