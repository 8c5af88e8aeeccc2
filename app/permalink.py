"""Permalink: the address of one chart, and the way to it for whoever opens a page by one."""

from __future__ import annotations

import json
from collections.abc import Collection
from string import Template
from urllib.parse import urlencode

import streamlit as st

from app import sidebar
from app.words import escape
from moe_core.errors import short
from moe_core.scenario import link
from moe_core.scenario.spec import SHOW

_PAGE, _ARRIVED = "permalink_page", "permalink_arrived"

# Charts above grow while they are drawn: the place is looked for again until it stays, or the user scrolls.
_ARRIVE = Template("""<script>
(() => {
    const until = Date.now() + 20000;
    let before = null, same = 0, left = false;
    for (const kind of ["wheel", "touchstart", "keydown", "pointerdown"])
        window.addEventListener(kind, () => { left = true; }, {once: true, passive: true});
    const look = () => {
        const chart = document.querySelector(".st-key-figure_" + $key);
        if (chart && !left) {
            const top = Math.round(chart.getBoundingClientRect().top);
            same = top === before ? same + 1 : 0;
            chart.scrollIntoView({block: "center"});
            before = Math.round(chart.getBoundingClientRect().top);
        }
        if (!left && same < 15 && Date.now() < until) setTimeout(look, 100);
    };
    look();
})();
</script>""")


def start_page(path: str) -> None:
    """Remember which page is drawn."""
    st.session_state[_PAGE] = path


def asked() -> str | None:
    """The chart that the address asks for."""
    return st.query_params.get(SHOW)


def address(key: str) -> str:
    """`http://host/memory?budget=Formats&batch=64&show=formats`: page, whole scenario, open tab and chart."""
    scenario = st.session_state.get(sidebar.STATE)
    values: dict[str, str | list[str]] = {name: st.query_params.get_all(name) for name in st.query_params}
    values |= {} if scenario is None else link.spoken(scenario)
    path = st.context.url or f"/{st.session_state.get(_PAGE, '')}"
    return f"{path}?{urlencode({**values, SHOW: key}, doseq=True)}"


def arrive(drawn: Collection[str]) -> None:
    """Scroll to the chart that was asked for, once; a chart that is not on this page is named."""
    key, page = asked(), st.session_state.get(_PAGE)
    if key is None or st.session_state.get(_ARRIVED) == (page, key):
        return
    st.session_state[_ARRIVED] = (page, key)
    if key in drawn:
        st.html(_ARRIVE.substitute(key=json.dumps(key)), unsafe_allow_javascript=True)
        return
    sentence = f"{SHOW} ({short(key)}): must be a chart of this page as it is now; its top is shown"
    st.toast(escape(sentence), icon=":material/link_off:", duration="long")
