"""Shelf: scenarios with a name of their own. Saved with a note, opened again, shared by a link, versioned."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from app import data, sidebar
from app.words import escape
from moe_core import hardware
from moe_core.errors import MoEScopeError
from moe_core.review import Case
from moe_core.scenario.link import NAMED, parameters
from moe_core.scenario.spec import Scenario
from moe_core.store import scenarios

AUTHOR = "review_author"
PROBLEM = "review_problem"


def shelf(scenario: Scenario) -> None:
    """Scenarios with a name of their own: save the one in the sidebar, open, share or delete the others."""
    store, table = data.door().store, scenarios.listing(data.door().store)
    st.markdown("**Saved scenarios**")
    if table.empty:
        st.caption("None yet. A saved scenario has a name and a note, and can be opened or shared later.")
    for row in table.to_dict("records"):
        identity = str(row["scenario_id"])
        found = scenarios.read(store, identity)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            label = f"**{escape(found.case.name)}** {escape(found.case.note)}"
            st.markdown(f"{label} :gray[version {found.version}]", width="stretch")
            open_button(found.case, f"kept_open_{identity}")
            st.button(
                "Delete", key=f"kept_delete_{identity}", icon=":material/delete:", type="tertiary",
                on_click=attempt_quietly, args=(partial(scenarios.delete, store, identity),),
            )  # fmt: skip
    with st.form("kept_new", border=True):
        kept = {**{"": "a new one"}, **names()}
        where = st.selectbox(
            "Save the scenario in the sidebar as", list(kept), format_func=lambda one: kept[one]
        )
        name = st.text_input("Name", default_name(scenario), max_chars=80)
        note = st.text_area("Note", max_chars=5_000, height=80)
        if st.form_submit_button("Save the scenario", icon=":material/bookmark:"):
            attempt(partial(_keep, scenario, where or "", name, note))


def save(scenario: Scenario) -> None:
    """Keep the scenario in the sidebar under a name, to be opened again from Reviews."""
    usual = default_name(scenario)
    with st.popover("Save", icon=":material/bookmark:"):
        name = st.text_input("Save it as", max_chars=80, placeholder=usual, key="save_name") or usual
        st.button("Save it", key="save_now", on_click=_saved, args=(scenario, name))
        if done := st.session_state.pop("saved_as", None):
            st.success(f"Kept as {escape(done)}; Reviews opens it again.", icon=":material/check:")
        if refused := st.session_state.pop("save_problem", None):  # not the page's own: it shows here
            st.error(escape(refused), icon=":material/error:")


def _saved(scenario: Scenario, name: str) -> None:
    try:
        _keep(scenario, "", name, "")
        st.session_state["saved_as"] = name
    except MoEScopeError as error:
        st.session_state["save_problem"] = str(error)


def _keep(scenario: Scenario, where: str, name: str, note: str) -> None:
    store, author = data.door().store, st.session_state.get(AUTHOR, "")
    base = scenarios.read(store, where).latest if where else 0
    scenarios.save(store, Case.parse(case(name, scenario, note)), author, where or None, base)


def case(name: str, scenario: Scenario, note: str = "") -> dict[str, Any]:
    """The scenario in the sidebar as a review keeps it."""
    resolved = data.resolved(scenario).model_dump(mode="json")
    return {"name": name, "parameters": parameters(scenario), "resolved": resolved, "note": note}


def default_name(scenario: Scenario) -> str:
    """What a scenario is called unless somebody says otherwise."""
    return f"{scenario.architecture} on {hardware.title(scenario.hardware)}"[:80]


def names() -> dict[str, str]:
    """Saved scenarios by identity."""
    table = scenarios.listing(data.door().store)
    return {str(row["scenario_id"]): str(row["name"]) for row in table.to_dict("records")}


def open_button(case: Case, key: str) -> None:
    """Set the sidebar to a scenario; its link does the same elsewhere."""
    link = {name: value for name, value in case.parameters.items() if name in NAMED}
    st.button(
        "Open", key=key, icon=":material/open_in_new:", on_click=sidebar.open_link, args=(link,),
        type="tertiary",
        help=f"Sets the sidebar. To share it: {escape('/?' + urlencode(link))}",
    )  # fmt: skip


def attempt(action: Callable[[], object]) -> None:
    """Do it and draw the page again; what cannot be done is one sentence there."""
    attempt_quietly(action)
    st.rerun()


def attempt_quietly(action: Callable[[], object]) -> None:
    """The same as a callback, after which Streamlit draws the page anyway."""
    try:
        action()
    except MoEScopeError as error:
        st.session_state[PROBLEM] = str(error)


def say(sentence: str) -> None:
    """A sentence about something that could not be used, here and now."""
    st.warning(escape(sentence), icon=":material/link_off:")


def problem() -> None:
    """What could not be done a moment ago."""
    said = st.session_state.pop(PROBLEM, None)
    if said:
        st.error(escape(said), icon=":material/error:")
