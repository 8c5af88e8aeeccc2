"""Asked: widgets of a page that stand in the URL. A value there that cannot be used is named.

Streamlit takes a default in silence, and clears the address: so the address is read before a widget is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import sidebar
from moe_core.scenario.spec import unusable


def check(field: str, choices: Sequence[object], used: object) -> None:
    """One sentence (field, value, rule, what is used) if the URL asks for what is none of the choices."""
    values, known = st.query_params.get_all(field), [str(choice) for choice in choices]
    if values and values[-1] not in known:
        sidebar.notice(unusable(field, values[-1], known, str(used)))


def pick(label: str, options: Sequence[Any], key: str, **extra: Any) -> Any:
    """A select box in the URL whose value is always one of `options`, the first by default."""
    check(key, options, options[0])
    found = st.selectbox(label, options, key=key, bind="query-params", **extra)
    return found if found in options else options[0]


def segments(label: str, options: Sequence[str], key: str, **extra: Any) -> str:
    """Buttons in the URL, one of which is pressed: the first by default."""
    check(key, options, options[0])
    found = st.segmented_control(
        label, options, default=options[0], required=True, key=key, bind="query-params", **extra
    )
    return found if found in options else options[0]


def toggle(label: str, key: str, help: str) -> bool:
    """A switch in the URL, off by default."""
    check(key, ("true", "false"), "false")
    return bool(st.toggle(label, key=key, bind="query-params", help=help))


def tabs(key: str, *names: str) -> Sequence[DeltaGenerator]:
    """Tabs of which only the open one is drawn; the URL says which."""
    check(key, names, names[0])
    found: Sequence[DeltaGenerator] = st.tabs(names, on_change="rerun", key=key, bind="query-params")
    return found
