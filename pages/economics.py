"""Economics: what does a token cost? The dense-equivalent curve, then times, dollars, rivals, loads."""

import streamlit as st

from app import economics, sidebar
from app import economics_tabs as tabs

scenario = sidebar.current()
head, tools = st.container(), st.container(horizontal=True, vertical_alignment="bottom", gap="small")
with tools:
    chosen = economics.controls(scenario)
with head:
    asked = economics.ask(scenario, chosen)
    if asked:
        economics.answer(asked)
if asked is None:
    st.stop()
economics.main(asked, scenario.run_spec())

phases, work, money, rivals, load, exchange = st.tabs(
    ["Read and write", "Bytes and roofs", "Dollars", "Against others", "Uneven load", "Over devices"],
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
if rivals.open:
    with rivals:
        tabs.rivals(asked)
if load.open:
    with load:
        tabs.imbalance(asked)
if exchange.open:
    with exchange:
        tabs.exchange(asked)
