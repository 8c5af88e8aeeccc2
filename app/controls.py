"""Controls: the scenario's widgets in the sidebar. They live in the URL and return a `Scenario`.

Widgets offer only what is possible, but a URL or a forged message may hold anything: what cannot be
used is named in one sentence (field, value, rule), and a default takes its place in sight.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import catalogue, data, scenario
from app.scenario import CHOICES, DEFAULTS, WORDS, Scenario
from app.words import escape

STATE = "scenario_now"
_URL = "scenario_url_notices"


def current() -> Scenario:
    """The scenario of this rerun; the entry point has drawn the sidebar before any page runs."""
    found: Scenario = st.session_state[STATE]
    return found


def sidebar() -> None:
    """Draw the widgets, say what could not be used, and remember the scenario for the page."""
    architectures = (*data.architectures(), *catalogue.usable())
    names = {"architecture": architectures, "hardware": data.devices(), "subject": catalogue.names()}
    if _URL not in st.session_state:
        parameters = {key: st.query_params.get_all(key) for key in st.query_params}
        st.session_state[_URL] = scenario.read(parameters, names)
    with st.sidebar:
        _notices()
        values = _model(names["architecture"]) | _work() | _machine(names["hardware"])
        text = _text()
    own = catalogue.mine().get(values["architecture"])
    found = Scenario(**{**values, "text": text, "own": own.architecture if own else None})
    previous = st.session_state.get(STATE)
    if previous is not None and previous != found:
        st.session_state[_URL] = []  # the user moved on
    st.session_state[STATE] = found


def _notices() -> None:
    for sentence in st.session_state[_URL]:
        st.warning(escape(sentence), icon=":material/link_off:")


def _model(architectures: tuple[str, ...]) -> dict[str, Any]:
    """Architecture and mixture: what both scales share."""
    st.markdown("**Mixture**")
    architecture = st.selectbox(
        "Architecture, full size",
        sorted(architectures, key=str.lower),
        index=sorted(architectures, key=str.lower).index(architectures[0]),
        key="architecture",
        bind="query-params",
        on_change=_adopt,
        help="A published model. Choosing one also sets the experts of the scale model, as near as they go.",
    )
    model = st.segmented_control(
        "Scale model",
        WORDS["model"],
        default=DEFAULTS["model"],
        required=True,
        key="model",
        bind="query-params",
        help="Carved: our trained dense model, cut into the mixture below without training. "
        "Trained: a mixture trained from scratch on the same bytes; it brings its own experts.",
    )
    own = data.trained_mixture() if model == "trained" else {}
    experts = own.get("experts") or _slider("experts", "Experts, scale model")
    wanted = _slider("top_k", "Experts per token (top-k), scale model")
    top_k, notice = scenario.clamp_top_k(wanted, experts)
    if notice:
        st.warning(escape(notice), icon=":material/vertical_align_top:")
    if own:
        shared = own["shared"]
        st.caption(
            f"The trained mixture has {scenario.describe(experts, own['top_k'], shared)}; top-k may vary."
        )
    else:
        shared = _slider("shared", "Shared experts, scale model")
    edit = st.toggle(
        "Edit the full size too",
        key="edit",
        bind="query-params",
        help="Off: the architecture as published. On: with the experts, top-k and shared experts above.",
    )
    return {
        "architecture": _known(architecture, architectures),
        "model": model if model in WORDS["model"] else DEFAULTS["model"],
        "experts": experts,
        "top_k": top_k,
        "shared": shared,
        "edit": bool(edit),
    }


def _adopt() -> None:
    """A newly chosen architecture sets the knobs to its own mixture, as near as they go."""
    for field, value in catalogue.mixture_of(st.session_state["architecture"]).items():
        st.session_state[field] = scenario.nearest(field, value)


def _work() -> dict[str, int]:
    st.markdown("**Work**")
    return {
        "batch": _slider("batch", "Batch (sequences), both scales"),
        "seq": _slider("seq", "Sequence, scale model (bytes)"),
        "context": _slider("context", "Context, full size (tokens)"),
        "write": _slider("write", "Written per sequence (tokens)"),
    }


def _machine(devices: tuple[str, ...]) -> dict[str, Any]:
    st.markdown("**Machine**")
    precision = st.selectbox(
        "Precision",
        WORDS["precision"],
        key="precision",
        bind="query-params",
        help="auto: the scale model takes what is fastest here, the full size bf16. "
        "fp8 and int4 are for the weights of the full size only.",
    )
    hardware = st.selectbox(
        "Hardware, full size",
        devices,
        key="hardware",
        bind="query-params",
        help="The device the full size is judged on. The scale model always runs on this machine.",
    )
    return {
        "precision": precision if precision in WORDS["precision"] else DEFAULTS["precision"],
        "hardware": _known(hardware, devices),
    }


def _slider(field: str, label: str) -> int:
    """A slider over the choices of a field. What comes back is checked: the browser may lie."""
    value = st.select_slider(label, CHOICES[field], value=DEFAULTS[field], key=field, bind="query-params")
    return value if value in CHOICES[field] else int(DEFAULTS[field])


def _known(value: str | None, names: tuple[str, ...]) -> str:
    return value if value in names else names[0]


def _text() -> str | None:
    """The user's own text: pasted, or uploaded into the same box. None reads the held-out corpus."""
    st.markdown("**Text**")
    with st.expander("Your own text, scale model", icon=":material/edit_note:"):
        st.text_area("Paste text", key="own_text", persist_state="session", height=140, max_chars=200_000)
        st.file_uploader("or a text file (UTF-8)", key="own_file", on_change=_upload, max_upload_size=1)
        problem = st.session_state.get("own_problem")
        if problem:
            st.error(escape(problem), icon=":material/error:")
    own = st.session_state.get("own_text") or ""
    if not own:
        st.caption("Reads the held-out corpus: eight kinds of text in turn.")
        return None
    text, problem = scenario.check_text(own)
    if problem:
        st.error(escape(problem), icon=":material/error:")
    else:
        st.caption(f"Reads your text: {len(own.encode()):,} bytes. It stays on this machine.")
    return text


def _upload() -> None:
    """Put an uploaded file into the text box, or say why not."""
    file = st.session_state.get("own_file")
    st.session_state["own_problem"] = None
    if file is not None:
        text, problem = scenario.decode_text(file.name, file.getvalue())
        st.session_state["own_problem"] = problem
        if text is not None:
            st.session_state["own_text"] = text
