"""Panels: the pieces every page is made of, so that all pages speak the same grammar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import data, exports, permalink, sidebar
from app.figure import Figure
from app.words import busy_words, escape, measured_here
from moe_core.provenance import Provenance
from moe_core.provenance import Source as Source
from moe_core.report import archive
from moe_core.report.decided import Decided
from moe_core.report.formats import FORMATS
from moe_core.report.text import slug
from moe_core.scenario.resolved import Resolved
from moe_core.scenario.spec import Scenario
from moe_core.store.queries import Run

PAGES = Path(__file__).resolve().parents[1] / "pages"
_BADGE: dict[Provenance, tuple[Any, str]] = {
    "measured here": ("violet", ":material/speed:"),
    "measured elsewhere": ("gray", ":material/public:"),
    "published": ("green", ":material/menu_book:"),
    "modelled": ("orange", ":material/function:"),
}


Drawn = tuple[Figure, Sequence[Source], Mapping[str, Resolved] | None]


class Number(NamedTuple):
    """One of the at most four numbers of a page. `note` compares it with something.

    heads: what the parts of `value` are, where there are several, in our own Markdown.
    """

    label: str
    value: str
    note: str
    source: Source
    heads: str = ""


def source_of(run: Run) -> Source:
    """A run made here was measured here; a shipped one and a trace elsewhere."""
    busy = "" if run.busy is None or run.busy.quiet else busy_words(run.busy)
    elsewhere = run.reference or run.served
    kind: Provenance = "measured elsewhere" if elsewhere else "measured here"
    return Source(kind, measured_here(run), run.run_id, busy)


def recorded(run: Run) -> Source:
    """The same for what a router decided and how good a model is: neither depends on what else ran."""
    return source_of(run)._replace(busy="")


def badge(source: Source) -> None:
    """The provenance badge; its tooltip gives device, versions, date, error."""
    color, icon = _BADGE[source.kind]
    st.badge(source.kind, icon=icon, color=color, help=escape(source.detail))
    if source.busy:
        words = f"Measured while {source.busy}: times are longer and less even than on an idle machine."
        st.badge("busy machine", icon=":material/hourglass_top:", color="red", help=escape(words))


def mark(kind: Provenance) -> str:
    """A provenance badge inside a line of Markdown, as in the cells of a table."""
    color, icon = _BADGE[kind]
    return f":{color}-badge[{icon} {kind}]"


def lead(sentence: str, *sources: Source) -> None:
    """The page's answer: one sentence computed from the data, and where its numbers come from."""
    st.title(escape(sentence), anchor=False)
    _remember(0, sentence)
    with st.container(horizontal=True, gap="small"):
        for source in sources:
            badge(source)


def numbers(items: Sequence[Number]) -> None:
    """At most four numbers, each with its badge; nothing where there are none."""
    assert len(items) <= 4, "a page opens with at most four numbers"
    _remember(1, tuple(items))
    if not items:  # a grid has at least one column
        return
    sides = any(item.heads for item in items)  # several parts side by side take a smaller letter
    with st.container(key="sides" if sides else None), st.grid(len(items), min_column_width=170, gap="small"):
        for item in items:
            with st.container(border=True, gap="xsmall", height="stretch"):
                st.metric(item.label, item.value)
                if item.heads:  # no caption: its grey would take the colours with it
                    st.markdown(f":small[{item.heads}]  \n:small[:gray[{escape(item.note)}]]")
                else:
                    st.caption(escape(item.note))
                badge(item.source)


def show(
    figure: Figure,
    key: str,
    *sources: Source,
    caveat: str = "",
    on_select: Callable[[], None] | None = None,
    height: int | None = None,
    cases: Mapping[str, Resolved] | None = None,
    slim: bool = False,
) -> None:
    """A figure with its finding above, its provenance, a view of its data, and export.

    `sources`: one, or one for each way in which its series came about. `cases`: the scenarios it shows, where
    that is not the one in the sidebar. `slim`: the badge stands beside the finding, which is one line high.
    """
    _page()[2][key] = (figure, sources, cases)
    with st.container(border=True, key=f"figure_{key}", gap="small"):
        with st.container(horizontal=True, vertical_alignment="top", wrap=False):
            st.header(escape(figure.title), anchor=False)
            if slim:
                _badges(sources)
            with st.container(width="content"):
                _more(figure, key, sources, cases)
        extra: dict[str, Any] = {"on_select": on_select} if on_select else {}
        extra |= {"height": height} if height else {}
        st.vega_lite_chart(figure.spec, key=f"chart_{key}", alt=figure.alt, width="stretch", **extra)
        if slim:
            return
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            _badges(sources)
            if caveat:
                st.caption(escape(caveat), width="stretch")


def _badges(sources: Sequence[Source]) -> None:
    for source in sources:
        badge(source)


@st.fragment
def _more(figure: Figure, key: str, sources: Sequence[Source], cases: Mapping[str, Resolved] | None) -> None:
    """The rows behind a figure and its files, made when asked for."""
    opened = st.popover(
        "Data", icon=":material/table_view:", key=f"data_{key}", on_change="rerun", type="tertiary"
    )
    if not opened.open:
        return
    with opened:
        st.caption("A link to this figure, with the whole scenario:")
        st.code(permalink.address(key), language=None, wrap_lines=True)
        st.dataframe(figure.data, hide_index=True, height=220, alt=f"The rows behind: {figure.title}")
        context = _context(sources, cases)
        with st.container(horizontal=True, gap="small"):
            for ending, (label, mime, _) in FORMATS.items():
                st.download_button(
                    label,
                    partial(exports.file, ending, {key: figure}, context, _theme()),
                    f"moescope-{slug(key)}.{ending}",
                    mime,
                    on_click="ignore",
                    key=f"{label}_{key}",
                    icon=":material/download:",
                    help=_HINTS.get(ending),
                )


def page_files(title: str) -> None:
    """The whole page as a file: its answer, numbers and every figure drawn so far."""
    lead, cards, figures = _page()
    if not figures:
        return
    opened = st.popover(
        "Export this page", icon=":material/download:", key="page_files", on_change="rerun", type="tertiary"
    )
    if not opened.open:
        return
    sources = list(dict.fromkeys(source for _, own, _ in figures.values() for source in own))
    shown = [own for *_, own in figures.values() if own is not None]
    cases = {name: case for own in shown for name, case in own.items()} if shown else None
    rows = tuple((card.label, card.value, card.note, card.source.kind) for card in cards)
    found = archive.Page(lead or title, rows, {key: figure for key, (figure, *_) in figures.items()})
    with opened:
        st.caption(f"{len(figures)} figure{'s' * (len(figures) != 1)}, all rows, and how to make them again.")
        with st.container(horizontal=True, gap="small"):
            for ending, label in exports.PAGES.items():
                st.download_button(
                    label,
                    partial(exports.page, ending, found, _context(sources, cases), _theme()),
                    f"moescope-{slug(title)}.{ending}",
                    on_click="ignore",
                    key=f"page_{ending}",
                    icon=":material/download:",
                )


_HINTS = {
    "csv": "Rows only. The manifest, from which the numbers can be made again, is in every other format.",
    "html": "The living chart in one file; it needs no network.",
    "json": "Vega-Lite with its data and the manifest.",
}
_DRAWN = "page_drawn"


def _remember(place: int, value: Any) -> None:
    if _DRAWN in st.session_state:
        st.session_state[_DRAWN][place] = value


def decides(kept: Callable[[], Decided]) -> None:
    """The verdict that this page shows: its exports carry what was asked and the numbers of the answer."""
    _remember(3, kept)


def start_page() -> None:
    """A new rerun draws the page anew: nothing is on it yet."""
    st.session_state[_DRAWN] = ["", (), {}, None]


def drawn() -> tuple[str, ...]:
    """Keys of the figures that stand on the page so far."""
    return tuple(_page()[2])


def wanted(*keys: str) -> bool:
    """Whether the address asks for one of these figures: what hides it opens."""
    return permalink.asked() in keys


def _page() -> tuple[str, Sequence[Number], dict[str, Drawn]]:
    lead, cards, figures = st.session_state.get(_DRAWN, ("", (), {}, None))[:3]
    return lead, cards, figures


def _context(sources: Sequence[Source], cases: Mapping[str, Resolved] | None) -> exports.Context:
    kept: Callable[[], Decided] | None = st.session_state.get(_DRAWN, (None,) * 4)[3]
    runs = dict.fromkeys(source.run for source in sources if source.run is not None)
    scenario: Scenario | None = st.session_state.get(sidebar.STATE)
    return exports.Context(
        None if scenario is None else partial(data.resolved, scenario),
        tuple((source.kind, source.detail) for source in sources),
        tuple(found for found in map(data.bundle_of, runs) if found is not None),
        cases,
        kept() if kept is not None else None,
    )


def _theme() -> str:
    return "dark" if st.context.theme.type == "dark" else "light"


def nothing_yet(waiting: bool) -> None:
    """A page without any run: what is happening, and what to do."""
    if waiting:
        st.title("The first run on this device is under way", anchor=False)
        st.caption(
            "It reads held-out text with the dense test model and the mixture you chose, and records both."
        )
        for height in (90, 260, 180):
            st.skeleton(height)
        return
    st.title("There is no run to show yet", anchor=False)
    st.caption("Change a setting in the sidebar to start one, or open Runs to see what happened.")


def aside(title: str) -> DeltaGenerator:
    """A bordered card with a heading, beside the main chart."""
    card = st.container(border=True, gap="small", height="stretch")
    card.markdown(f"**{escape(title)}**")
    return card


def link(page: str, label: str, query: Mapping[str, str] | None = None) -> None:
    """A link to another page of the dashboard; the scenario goes along, `query` in place of its own."""
    st.page_link(
        str(PAGES / f"{page}.py"), label=label, icon=":material/arrow_forward:", query_params=query or None
    )


def pair() -> tuple[DeltaGenerator, DeltaGenerator]:
    """Two panels side by side where there is room for both, else one below the other."""
    grid = st.grid(2, min_column_width=400, gap="small")
    return grid.cell(), grid.cell()


def pick(label: str, options: list[Any], key: str, **extra: Any) -> Any:
    """A select box in the URL whose value is always one of `options`."""
    found = st.selectbox(label, options, key=key, bind="query-params", **extra)
    return found if found in options else options[0]
