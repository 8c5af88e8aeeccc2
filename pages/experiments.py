"""Experiments: what can be trained here, what came of it, and how sure is that? All of them, then one."""

import streamlit as st

from app import asked, panels
from app.experiments import view

panels.lead(view.sentence())
view.overview()

every, one, alike = asked.tabs(view.TABS, view.ALL, view.ONE, view.GRID)
if every.open:
    with every:
        view.every()
if one.open:
    with one:
        view.panel(view.pick())
        st.caption(
            "Findings are numbers; what they mean for a claim is decided on the Claims page, each time anew."
        )
if alike.open:
    with alike:
        view.trained_alike()
