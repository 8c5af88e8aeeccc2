"""Economics: what does a token cost? The dense-equivalent curve, then times, dollars, rivals, loads."""

import streamlit as st

from app import sidebar
from app.economics import tabs, view

scenario = sidebar.current()
head, tools = st.container(), st.container(horizontal=True, vertical_alignment="bottom", gap="small")
with tools:
    chosen = view.controls(scenario)
with head:
    asked = view.ask(scenario, chosen)
    if asked:
        view.answer(asked)
if asked is None:
    st.stop()
view.main(asked, scenario.run_spec())

phases, work, money, worth, rivals, load, exchange = st.tabs(
    [
        *("Read and write", "Bytes and roofs", "Dollars", "Quality and time", "Against others"),
        *("Uneven load", "Over devices"),
    ],
    on_change="rerun",
    key="cost",
    bind="query-params",
)
if phases.open:
    with phases:
        tabs.phases(asked)
if work.open:
    with work:
        tabs.work(asked)
if money.open:
    with money:
        tabs.money(asked)
if worth.open:
    with worth:
        tabs.worth(asked)
if rivals.open:
    with rivals:
        tabs.rivals(asked)
if load.open:
    with load:
        tabs.imbalance(asked)
if exchange.open:
    with exchange:
        tabs.exchange(asked)
