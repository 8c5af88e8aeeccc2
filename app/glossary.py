"""Glossary: the words of the field in plain ones, and the concepts in full. Both are read from `docs`."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import streamlit as st

CONCEPTS = Path(__file__).resolve().parents[1] / "docs" / "concepts.md"
_ROW = re.compile(r"^\| (?P<word>[^|]+?) \| (?P<plain>[^|]+?) \|$")
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://)[^)]*\)")  # to another file: it would lead nowhere here


@lru_cache(maxsize=1)
def text() -> str:
    """The concepts without their title; empty where the documents are not installed."""
    if not CONCEPTS.is_file():
        return ""
    return _LINK.sub(r"\1", re.sub(r"\A# .*\n", "", CONCEPTS.read_text(encoding="utf-8")))


def words() -> dict[str, str]:
    """Each word of the table `Words`, and what it means in plain ones, in the order of the table."""
    _, _, table = text().partition("\n## Words\n")
    rows = [match for line in table.splitlines() if (match := _ROW.match(line))]
    return {row["word"]: row["plain"] for row in rows[1:]}  # the first is the table's head


def button() -> None:
    """The glossary one click away; nothing where there is none."""
    if not text():
        return
    opened = st.popover(
        "Words", icon=":material/dictionary:", key="glossary", on_change="rerun", type="tertiary",
        help="What the words of this dashboard mean.",
    )  # fmt: skip
    if opened.open:
        with opened:
            _table()


def _table() -> None:
    st.button("The concepts in full", icon=":material/menu_book:", key="concepts", on_click=_wanted)
    with st.container(height=420, border=False):
        rows = [f"| **{word}** | {plain} |" for word, plain in words().items()]
        st.markdown("\n".join(["| Word | In plain words |", "|---|---|", *rows]))


def _wanted() -> None:
    st.session_state["concepts_wanted"] = True
    st.session_state["glossary"] = False  # else it would lie over them


@st.dialog("Concepts", width="large")
def _concepts() -> None:
    before, _, _ = text().partition("\n## Words\n")
    st.markdown(re.sub(r"^## ", "### ", before, flags=re.M))
    st.caption("From docs/concepts.md.")


def asked() -> None:
    """The concepts over the page, when somebody asked for them."""
    if st.session_state.pop("concepts_wanted", False):
        _concepts()
