"""Text: one's own, for the test model to run, pasted or uploaded."""

from __future__ import annotations

import streamlit as st

from app.words import escape
from moe_core.scenario import spec


def own_text() -> str | None:
    """The user's own text: pasted, or uploaded into the same box. None reads the held-out corpus."""
    st.text_area("Your own text", key="own_text", persist_state="session", height=140, max_chars=200_000)
    st.file_uploader("or a text file (UTF-8)", key="own_file", on_change=_upload, max_upload_size=1)
    if problem := st.session_state.get("own_problem"):
        st.error(escape(problem), icon=":material/error:")
    own = st.session_state.get("own_text") or ""
    if not own:
        st.caption("Reads the held-out corpus: eight kinds of text in turn.")
        return None
    text, problem = spec.check_text(own)
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
        text, problem = spec.decode_text(file.name, file.getvalue())
        st.session_state["own_problem"] = problem
        if text is not None:
            st.session_state["own_text"] = text
