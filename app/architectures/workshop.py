"""Workshop: import a configuration, edit an architecture. What comes of either is a model like any other.

An import is counted here in closed form; where that cannot express it, transformers counts it in a
process of its own. Edits stand in the URL as `changes`, so a link carries them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pandas as pd
import streamlit as st

from app import models, panels, sidebar
from app.architectures import checkpoints, frames
from app.figure import percent, times
from app.panels import Source
from app.words import escape, size
from moe_core.errors import ConfigError, MoEScopeError
from moe_core.hf.config import Unsupported
from moe_core.perf import precision as formats
from moe_core.perf.memory import weights
from moe_core.perf.step_time import token_flops, token_state
from moe_core.scenario import subjects
from moe_core.scenario.spec import Scenario
from moe_core.scenario.subjects import FIELDS, KINDS, Subject
from moe_core.specs import Architecture
from moe_core.units import count, quantity

_LINKED = "edit_of_a_link"  # the `changes` that were read
MOST_PASTED = 400_000  # characters; an upload may be larger
_KV_WORDS = {
    "as it is": "as it is",
    "mha": "MHA: one KV head a head",
    "gqa": "GQA: KV heads as set",
    "mqa": "MQA: one KV head",
    "mla": "MLA: a latent",
}


def use(model: Subject, scenario: Scenario) -> None:
    """Put the model looked at into the scenario, so that every other page takes it too."""
    possible = model.name in models.usable() or (model.standing == "published" and model.routing)
    st.button(
        "Use in the scenario",
        key="subject_use",
        on_click=_use,
        args=(model.name,),
        disabled=not possible or model.name == scenario.architecture,
        icon=":material/arrow_circle_left:",
        help="The sidebar takes this mixture, and so does every page. A scenario needs a mixture.",
    )


def check(model: Subject) -> None:
    """Name what a link's `changes` hold that cannot be used, once, whether or not they are looked at."""
    text = st.query_params.get("changes", "")
    if "edit_of" in st.session_state or model.architecture is None or st.session_state.get(_LINKED) == text:
        return
    st.session_state[_LINKED] = text
    for problem in subjects.read_changes(text, model.architecture)[2]:
        sidebar.notice(problem)


def _use(name: str) -> None:
    sidebar.open_link({"architecture": name})


# -- import ----------------------------------------------------------------------------------------


def imports() -> None:
    """Upload, paste or name a folder; the model is looked at as soon as it is understood."""
    left, right = panels.pair()
    with left, panels.aside("A config.json from Hugging Face"):
        st.text_input("Call it", key="import_name", max_chars=40, placeholder="as the file says")
        st.file_uploader("Upload config.json", key="import_file", on_change=_upload, max_upload_size=4)
        st.text_area("or paste it", key="import_text", height=180, max_chars=MOST_PASTED)
        st.button("Import", key="import_go", on_click=_paste, type="primary", icon=":material/input:")
        st.caption("Only sizes are read. No code of a model is ever run; nothing leaves this machine.")
    with right:
        _outcome()
        _kept()
        checkpoints.panel(_understand)


def _upload() -> None:
    file = st.session_state.get("import_file")
    if file is not None:
        _take(file.getvalue(), file.name)


def _paste() -> None:
    _take(st.session_state.get("import_text") or "", "config.json")


def _take(text: bytes | str, file: str) -> None:
    """Understand what was given and look at it; or say in one sentence why not."""
    st.session_state["import_outcome"] = ("error", "Paste a config.json or upload one first.")
    if not text.strip():
        return
    try:
        config = subjects.parse(text, file)
    except MoEScopeError as error:
        st.session_state["import_outcome"] = ("error", frames.problem_of(error))
        return
    name = subjects.name_of(config, st.session_state.get("import_name") or "", file)
    kept = _understand(config, name)
    if kept is not None:
        st.session_state["subject"] = kept


def _understand(config: Mapping[str, object], name: str) -> str | None:
    """Keep the model if the closed form reaches; else say why not and offer to count it."""
    try:
        kept = models.keep(subjects.understand(config, name))
    except Unsupported as error:
        st.session_state["import_outcome"] = ("count", frames.problem_of(error))
        st.session_state["import_waiting"] = (name, config)
        return None
    except MoEScopeError as error:
        st.session_state["import_outcome"] = ("error", frames.problem_of(error))
        return None
    st.session_state["import_config"] = (kept, config)
    st.session_state["import_outcome"] = ("done", kept)
    return kept


def _outcome() -> None:
    """What became of the last import, and the next thing to do."""
    kind, words = st.session_state.get("import_outcome", ("none", ""))
    if kind == "none":
        st.info(
            "An imported model can be edited, compared and put into the scenario.", icon=":material/info:"
        )
    elif kind == "error":
        st.error(escape(words), icon=":material/error:")
    elif kind == "count":
        st.warning(escape(words), title="The closed form does not reach", icon=":material/functions:")
        if st.button("Count it exactly, about ten seconds", key="import_count", icon=":material/calculate:"):
            _count(*st.session_state["import_waiting"])
    elif words in models.mine():
        found = models.subject(words)
        how = f"{count(found.parameters.total)} parameters, {subjects.METHODS[found.parameters.method]}"
        how += f"; stored in {formats.words(found.formats[0])}"
        st.success(f"Looking at {escape(words)}: {escape(how)}.", icon=":material/check:")
        for note in found.notes:
            st.caption(escape(note))
        name, config = st.session_state.get("import_config", ("", {}))
        fresh = name == words and found.parameters.method == "closed_form"
        if fresh and st.button("Check against transformers, about ten seconds", key="import_check"):
            _check(found, config)


def _count(name: str, config: Mapping[str, object]) -> None:
    """Ask the process that may load transformers, and look at the answer."""
    try:
        with st.spinner("Building it without weights, in a process of its own"):
            kept = models.keep(frames.count_apart(config, name))
    except MoEScopeError as error:
        st.error(escape(frames.problem_of(error)), icon=":material/error:")
        return
    st.session_state["import_outcome"] = ("done", kept)
    st.session_state["subject_wanted"] = kept
    st.rerun()


def _check(found: Subject, config: Mapping[str, object]) -> None:
    try:
        with st.spinner("Building it without weights, in a process of its own"):
            exact = frames.count_apart(config, found.name).parameters.total
    except MoEScopeError as error:
        st.error(escape(frames.problem_of(error)), icon=":material/error:")
        return
    if exact == found.parameters.total:
        st.success(f"transformers counts the same {exact:,} parameters.", icon=":material/verified:")
    else:
        st.warning(f"transformers counts {exact:,}, the closed form {found.parameters.total:,}.")


def _kept() -> None:
    own = models.mine()
    if not own:
        return
    with panels.aside("This session's models"):
        for name, one in own.items():
            words = (
                f"{count(one.parameters.total)}, {one.standing}, {subjects.METHODS[one.parameters.method]}"
            )
            st.markdown(f"**{escape(name)}**: {escape(words)}")
        st.caption("They last as long as this browser session.")


# -- edit ------------------------------------------------------------------------------------------


def edit(model: Subject, scenario: Scenario) -> None:
    """Knobs on the left, consequences beside the model as it is on the right."""
    if model.architecture is None:
        st.info(
            f"{escape(model.name)} has no closed form to edit; choose another model above.",
            icon=":material/edit_off:",
        )
        return
    _seed(model.name, model.architecture)
    left, right = panels.pair()
    with left:
        wanted, kind = _knobs(model.architecture)
    new, problem = _edited(model, model.architecture, wanted, kind)
    with right:
        if problem:
            st.error(escape(problem), title="That model cannot be", icon=":material/block:")
            st.caption("Shown is the model as it is.")
        facts = Source("modelled", new.source)
        panels.show(frames.parameters(model, new), "edited", facts, caveat="full size, closed form")
        st.button(
            "Look at the edited model",
            key="edit_keep",
            on_click=_adopt,
            args=(new,),
            disabled=new.parameters == model.parameters,
            icon=":material/visibility:",
            help="Keeps it for this session: compare it, see it on the chart, use it in the scenario.",
        )
    with panels.aside("What it changes"):
        rows = pd.DataFrame([one.row() for one in _measures(model, new, scenario)])
        st.dataframe(rows, hide_index=True, alt="The model as it is beside the edited one")
        panels.badge(facts)


def _seed(name: str, arch: Architecture) -> None:
    """The knobs start from the model; on the first visit, from the changes in the URL."""
    if st.session_state.get("edit_of") == name:
        return
    text = st.query_params.get("changes", "") if "edit_of" not in st.session_state else ""
    values, kind, _ = subjects.read_changes(text, arch)
    for field in FIELDS:
        st.session_state.pop(f"edit_{field}", None)
    st.session_state.update({f"edit_{field}": value for field, value in values.items()})
    st.session_state.update({"edit_kv": kind, "edit_of": name})


def _knobs(arch: Architecture) -> tuple[dict[str, int], str]:
    """One number for each field the architecture has, and the kind of KV cache."""
    now = subjects.values(arch)
    with panels.aside("Change"):
        with st.grid(3, min_column_width=120, gap="small"):
            wanted = {field: _knob(field, value) for field, value in now.items()}
        kind = st.segmented_control(
            "KV cache",
            KINDS,
            format_func=_KV_WORDS.__getitem__,
            key="edit_kv",
            required=True,
            persist_state="session",
        )
        st.button("As it was", key="edit_reset", on_click=_reset, icon=":material/undo:")
    kind = kind if kind in KINDS else KINDS[0]
    changes = subjects.changed(arch, wanted, kind)
    words = ",".join(f"{field}:{value}" for field, value in changes.items())
    if words:
        st.query_params["changes"] = words
    elif "changes" in st.query_params:
        del st.query_params["changes"]
    return wanted, kind


def _knob(field: str, now: int) -> int:
    label, least, most = FIELDS[field]
    found = st.number_input(
        label, least, most, key=f"edit_{field}", persist_state="session", help=f"It has {now:,}."
    )
    return now if found is None else int(found)


def _reset() -> None:
    st.session_state["edit_of"] = ""


def _edited(
    model: Subject, arch: Architecture, wanted: dict[str, int], kind: str
) -> tuple[Subject, str | None]:
    """The edited model; or the model as it is, and the sentence that says what cannot be."""
    name = f"{model.name.removesuffix(', edited')}, edited"
    try:
        return subjects.own(subjects.edited(arch, wanted, kind), "edited").renamed(name), None
    except ConfigError as error:
        return subjects.own(arch, "edited").renamed(name), frames.problem_of(error)


def _adopt(new: Subject) -> None:
    st.session_state["subject"] = models.keep(new)


class Measure(NamedTuple):
    """One line of consequences: what, as it is, edited, how a value is written."""

    what: str
    old: float
    new: float
    write: Callable[[float], str]

    def row(self) -> dict[str, str]:
        """As strings; integers stay exact however large."""
        change = "none" if self.old == self.new else times(self.new / self.old) if self.old else "new"
        return {
            "what": self.what,
            "as it is": self.write(self.old),
            "edited": self.write(self.new),
            "change": change,
        }


def _measures(old: Subject, new: Subject, scenario: Scenario) -> list[Measure]:
    """Parameters, active, choice, bytes and FLOPs of both."""
    context = scenario.context
    found = [Measure("parameters", old.parameters.total, new.parameters.total, _exact)]
    for convention, words in subjects.CONVENTIONS.items():
        was, now = (getattr(one.parameters.active, convention) for one in (old, new))
        found.append(Measure(f"active, {words}", was, now, _exact))
    a, b = (subjects.model(one).cache for one in (old, new))
    whole = (kept.all_bytes(context, "bf16") for kept in (a, b))
    shares = (one.parameters.active.incl_embeddings / one.parameters.total for one in (old, new))
    known = [one.architecture for one in (old, new) if one.architecture]
    held = (sum(weights(one.parameters.breakdown, one.formats[0]).values()) for one in (old, new))
    work = (token_flops(arch, context) for arch in known)
    return [
        *found,
        Measure("active of total", next(shares), next(shares), percent),
        Measure("sets of experts in a layer", old.sets or 1, new.sets or 1, _exact),
        Measure("weights, as stored", next(held), next(held), size),
        Measure("KV cache a token, bf16", a.token_bytes("bf16"), b.token_bytes("bf16"), size),
        Measure(f"cache and state, {context:,} tokens", next(whole), next(whole), size),
        Measure(f"FLOPs a token, {token_state(context, *known)}", next(work), next(work), _flop),
    ]


def _flop(value: float) -> str:
    return quantity(value, "FLOP")


def _exact(value: float) -> str:
    return f"{int(value):,}"
