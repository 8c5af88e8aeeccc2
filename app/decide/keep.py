"""Keep: a verdict goes into a review with its scenario."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import streamlit as st

from app import data, shelf
from app.decide import frames as decide_frames
from app.decide.frames import Ruling
from app.words import escape
from moe_core.errors import MoEScopeError
from moe_core.review import Case, Review
from moe_core.scenario.decision import decision
from moe_core.scenario.spec import Scenario
from moe_core.store import reviews

_DONE = "ruled_done"


def offer(scenario: Scenario, of: Ruling) -> None:
    """The button of the Decide page: keep this scenario and its verdict in a review, an old or a new one."""
    with st.popover("Add to a review", icon=":material/add:"):
        shelf.problem()
        done = st.session_state.pop(_DONE, None)
        if done is not None:
            st.success(f"Kept in {escape(done)}; the Reviews page opens it.", icon=":material/check:")
        _form(scenario, of)


def _form(scenario: Scenario, of: Ruling) -> None:
    with st.form("ruled_add", border=False):
        known = reviews.listing(data.door().store).to_dict("records")
        titles = {"": "a new one", **{str(row["review_id"]): str(row["title"]) for row in known}}
        where = st.selectbox("Review", list(titles), format_func=lambda one: titles[one])
        title = st.text_input("Title of a new review", max_chars=200)
        name = st.text_input("Name of the scenario", shelf.default_name(scenario), max_chars=80)
        author = st.text_input("Your name", st.session_state.get(shelf.AUTHOR, ""), max_chars=80)
        st.caption("The verdict takes the place of an earlier one, which stays in the version before.")
        if st.form_submit_button("Add scenario and verdict", type="primary"):
            st.session_state[shelf.AUTHOR] = author
            shelf.attempt(partial(_keep, scenario, of, where or "", title, name))


def _keep(scenario: Scenario, of: Ruling, where: str, title: str, name: str) -> None:
    store, author = data.door().store, st.session_state[shelf.AUTHOR]
    case, verdict = Case.parse(shelf.case(name, scenario)), values(of)
    if where:
        saved = reviews.read(store, where)
        known = any(one.resolved == case.resolved for one in saved.review.scenarios)
        review = (saved.review if known else saved.review.with_case(case)).changed(verdict=verdict)
        reviews.save(store, where, review, author, base=saved.latest)
    else:
        review = Review.parse({"title": title, "scenarios": (case,), "verdict": verdict})
        where = reviews.create(store, review, author)
    st.session_state["review_next"], st.session_state[_DONE] = where, review.title


def values(of: Ruling) -> dict[str, Any]:
    """A verdict as a review holds it."""
    return decide_frames.kept(of).model_dump(mode="json")


def of_sidebar(scenario: Scenario) -> dict[str, Any] | None:
    """The verdict on the scenario in the sidebar, as the Decide page would ask; None where there is none."""
    with suppress(MoEScopeError):
        return values(decide_frames.rule(decision(scenario), data.hears(scenario)))
    return None
