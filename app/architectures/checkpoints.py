"""Checkpoints: a folder of safetensors on this machine, read by its headers. Weights are never loaded.

Only folders below those the installation allows (`MOE_CHECKPOINT_DIRS`, the home directory by default).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from app import data, panels
from app.architectures import frames
from app.figure import percent
from app.panels import Source
from app.words import escape, size
from moe_core.errors import MoEScopeError, short
from moe_core.hf import checkpoint
from moe_core.hf.checkpoint import SCALES, Checkpoint
from moe_core.report.text import many
from moe_core.units import count

Take = Callable[[Mapping[str, Any], str], str | None]
_CACHED = re.compile(r"^models--[^/]*?--(?P<name>[^/]+)$")  # how huggingface_hub names its folders


class Read(NamedTuple):
    """A checkpoint that was read, and what to call it."""

    name: str
    found: Checkpoint


def panel(take: Take) -> None:
    """A path to type; what is there; with a config.json the model is looked at too, through `take`."""
    with panels.aside("Or a checkpoint on this machine"):
        typed = st.text_input(
            "Folder with .safetensors files, or a .gguf file",
            key="import_folder",
            max_chars=4096,
            placeholder="path of a folder",
            help=_places(),
        )
        if st.button("Read its headers", key="import_headers", icon=":material/folder_open:"):
            _read(typed or "", take)
        st.caption("Headers only: true sizes and formats. Weights are not loaded.")
    kept: Read | None = st.session_state.get("import_checkpoint")
    if kept is not None:
        _show(kept)


def _places() -> str:
    allowed = data.door().settings.checkpoint_folders
    if not allowed:
        return "This installation reads no folders."
    return "Below " + escape(", ".join(str(place) for place in allowed)) + "; MOE_CHECKPOINT_DIRS says where."


def _read(typed: str, take: Take) -> None:
    """Every header, with progress; what is wrong in one sentence."""
    st.session_state.pop("import_checkpoint", None)
    bar = st.progress(0.0, "Reading headers")
    try:
        folder = checkpoint.confined(typed, data.door().settings.checkpoint_folders)
        found = checkpoint.read(
            folder, lambda done, all_: bar.progress(done / all_, f"Reading headers: {done} of {all_} files")
        )
    except MoEScopeError as error:
        st.error(escape(frames.problem_of(error)), icon=":material/error:")
        return
    finally:
        bar.empty()
    kept = Read(st.session_state.get("import_name") or name_of(folder), found)
    st.session_state["import_checkpoint"] = kept
    if found.config:
        if name := take(found.config, kept.name):
            st.session_state["subject_wanted"] = name
        st.rerun()


def name_of(folder: Path) -> str:
    """The folder's own name; of a cached snapshot the model's, for its folder is called by a hash."""
    cached = next((match for part in folder.parts if (match := _CACHED.match(part))), None)
    return short(cached["name"] if cached else folder.name or "checkpoint")


def rows(found: Checkpoint) -> pd.DataFrame:
    """component, format, elements, bytes, share: what the files hold."""
    frame = pd.DataFrame([part._asdict() for part in found.held])
    return frame.assign(share=100 * frame["nbytes"] / max(found.nbytes, 1))


def sentence(kept: Read) -> str:
    """What is on disk, by the format that holds most of it."""
    found = kept.found
    most = max(found.by_dtype, key=lambda dtype: found.by_dtype[dtype])
    scales = sum(part.elements for part in found.held if part.component == SCALES)
    files, tensors = many(found.files, "files"), many(found.tensors, "tensors")
    words = f"{kept.name}: {size(found.nbytes)} in {files}, {tensors}"
    words += f", {percent(found.by_dtype[most] / max(found.nbytes, 1))} of the bytes in {most}"
    return words + f"; {count(found.elements - scales)} elements" + (" beside the scales" if scales else "")


def _show(kept: Read) -> None:
    with panels.aside("On disk"):
        st.markdown(escape(sentence(kept)))
        st.dataframe(
            rows(kept.found),
            hide_index=True,
            column_config=_COLUMNS,
            column_order=list(_COLUMNS),
            alt="The checkpoint by component and format: elements and bytes",
        )
        if not kept.found.config:
            st.caption("There is no config.json beside it, so which experts a token visits is not known.")
        st.caption("A packed format keeps several weights in one element.")
        panels.badge(Source("measured here", f"{kept.name}: headers of its files, read on this machine"))


_COLUMNS: dict[str, Any] = {
    "component": "component",
    "dtype": "format",
    "elements": st.column_config.NumberColumn("elements", format="localized"),
    "nbytes": st.column_config.NumberColumn("bytes", format="localized"),
    "share": st.column_config.NumberColumn("of all bytes", format="%.3g %%"),
}
