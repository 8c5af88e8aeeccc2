"""Devices: those a session can choose. Listed ones are everybody's; one's own is typed in, or a small TOML.

One's own is chosen by its line (`moe_core.hardware.OwnDevice`), which says it whole, in the address too.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import data
from app.words import escape
from moe_core import hardware
from moe_core.errors import ConfigError
from moe_core.hardware import Hardware, OwnDevice

_OWN, _SAID = "own_devices", "own_device_said"
_MOST, _BYTES = 12, 64_000  # own devices of a session, bytes of a file
_FORMATS = ("bf16", "fp16", "fp8", "int8", "fp4")


def choices() -> tuple[str, ...]:
    """Everything that can be chosen: the listed devices, then one's own, those of a link among them."""
    asked = (st.session_state.get("hardware"), st.query_params.get("hardware"))
    own = dict.fromkeys(name for one in (*_mine(), *asked) if (name := _line(one)))
    return (*data.devices(), *own)


def _mine() -> list[str]:
    found: list[str] = st.session_state.setdefault(_OWN, [])
    return found


def _line(name: object) -> str | None:
    """The line of a device of one's own; None for anything else."""
    try:
        found = hardware.get(name) if isinstance(name, str) else None
    except ConfigError:
        return None
    return found.name if found is not None and found.grade == "own" else None


def own_device() -> None:
    """A form for a device of one's own, folded; what it holds becomes the device of the scenario."""
    with st.expander("Your own device", icon=":material/developer_board:"):
        with st.form("own_device", border=False):
            _fields()
            st.form_submit_button("Use it", on_click=_take)
        if said := st.session_state.pop(_SAID, None):
            st.error(escape(said), icon=":material/error:")


def _fields() -> None:
    st.text_input("Device name", max_chars=40, key="device_name", placeholder="My card")
    for key, label in (
        ("capacity_gb", "Memory, GB"),
        ("bandwidth_gbs", "Memory bandwidth, GB/s"),
        ("host_gbs", "Link to the host, GB/s one way"),
        ("link_gbs", "Link to other devices, GB/s both ways; none"),
        ("usd_per_hour", "Price, $ an hour; none"),
        ("watts", "Power limit, W; none"),
        *((form, f"Dense TFLOP/s in {form}") for form in _FORMATS),
    ):
        st.number_input(label, 0.0, 1e7, value=None, key=f"device_{key}")
    st.text_area(
        "Or a TOML with the fields of data/hardware.toml", max_chars=5_000, height=80, key="device_toml"
    )
    st.file_uploader("Or its file", "toml", key="device_file", max_upload_size=1)


def _take() -> None:
    """Keep what the form holds and choose it; what is wrong with it is one sentence."""
    try:
        found = _typed()
    except ConfigError as error:
        st.session_state[_SAID] = str(error)
        return
    st.session_state[_OWN] = [*(one for one in _mine() if one != found.name), found.name][-_MOST:]
    st.session_state["hardware"] = found.name


def _typed() -> Hardware:
    """The device of the file, of the TOML, or of the fields, in this order. Raises ConfigError."""
    state: Any = st.session_state
    if (file := state.get("device_file")) is not None:
        return hardware.from_toml(_text(file.getvalue()))
    if (text := state.get("device_toml") or "").strip():
        return hardware.from_toml(text)
    numbers = ("capacity_gb", "bandwidth_gbs", "host_gbs", "link_gbs", "usd_per_hour", "watts")
    values = {key: state.get(f"device_{key}") for key in numbers}
    peaks = {form: state.get(f"device_{form}") for form in _FORMATS}
    return OwnDevice.parse(
        {
            "name": (state.get("device_name") or "").strip() or "My card",
            **{key: value for key, value in values.items() if value},
            "peak_tflops": {form: value for form, value in peaks.items() if value},
        }
    ).record


def _text(held: bytes) -> str:
    if len(held) > _BYTES:
        raise ConfigError(f"device file ({len(held):,} bytes): must be at most {_BYTES:,} bytes")
    try:
        return held.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError("device file: must be text in UTF-8") from error
