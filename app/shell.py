"""Shell: what surrounds every page. Browser tab, navigation, scenario, notices; then the page itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from app import data, glossary, panels, permalink, shelf, sidebar
from app.words import escape
from moe_core.errors import MoEScopeError

STATIC = Path(__file__).parent / "static"


def run(pages: Mapping[str, Sequence[Any]]) -> None:
    """Draw the frame and run the page the user chose."""
    st.logo(str(STATIC / "logo.svg"), size="large")
    page = st.navigation({group: list(some) for group, some in pages.items()}, expanded=True)
    title = f"{page.title} - MoEScope"
    st.set_page_config(page_title=title, page_icon=STATIC / "favicon.png", layout="wide")
    try:
        opened = data.door()
    except MoEScopeError as error:
        st.error(escape(str(error)), title="MoEScope cannot open its data directory", icon=":material/error:")
        st.stop()
    for notice in opened.notices:
        st.warning(escape(notice), icon=":material/healing:")
    st.html(STATIC / "style.css")
    sidebar.redirect(page)
    sidebar.sidebar()
    with st.sidebar:
        shelf.save(sidebar.current())
    glossary.asked()
    permalink.start_page(page.url_path)
    panels.start_page()
    page.run()
    panels.page_files(page.title)
    permalink.arrive(panels.drawn())
