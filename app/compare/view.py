"""Compare: the parts of the Compare page that show. Up to four scenarios, each number with its provenance."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit

import pandas as pd
import streamlit as st

from app import data, panels, shelf
from app.compare import charts
from app.figure import Figure
from app.panels import Number, Source
from app.words import escape
from moe_core import hardware
from moe_core.decide.verdict import counted
from moe_core.errors import ConfigError
from moe_core.report import answer as answers
from moe_core.report import compare, tables
from moe_core.report.compare import Cell, Line
from moe_core.report.origins import MODELLED, PREDICTED
from moe_core.report.side import LETTERS, Side, labels, link
from moe_core.report.side import read as read_link
from moe_core.report.text import cell as safe
from moe_core.scenario import devices as machines
from moe_core.scenario.resolved import Resolved
from moe_core.units import quantity, significant

STATE = "compared"
SIZES = Source("modelled", MODELLED.detail)


# -- which ones ------------------------------------------------------------------------------------


def chosen() -> list[Side]:
    """The scenarios of this session; the first time, those of the link it came by."""
    if STATE not in st.session_state:
        st.session_state[STATE] = _adopt()
    found: list[Side] = st.session_state[STATE]
    return [_heard(side) for side in found]


def _heard(side: Side) -> Side:
    """With the load that is heard for it now, as on every other page."""
    case, bank = side.case, side.case.bank
    run = data.heard(case.run, bank, case.origin) if case.run and bank else None
    found = data.recorded(run) if run else None
    heard = (None, None) if found is None else (found.load, found.source[:400])
    return side._replace(case=side.case.model_copy(update=dict(zip(("load", "heard"), heard, strict=True))))


def _adopt() -> list[Side]:
    """What the URL asks for. Each that cannot be used is one sentence; the others stay."""
    found = []
    for letter in LETTERS.lower():
        asked = st.query_params.get(letter)
        if not asked:
            continue
        try:
            found += read(urlencode({"a": asked}))
        except ConfigError as error:
            shelf.say(f"Scenario {letter.upper()} of this link: {error}")
    return found[: len(LETTERS)]


def read(text: str) -> list[Side]:
    """The scenarios of a link; `this machine` is the one here. Raises ConfigError."""
    return read_link(text, here())


def here() -> int:
    """Bytes of memory of this machine."""
    return int(machines.get(machines.HERE).capacity)


def put(sides: Sequence[Side]) -> None:
    """Compare these from now on. Raises ConfigError when there are too many."""
    if len(sides) > len(LETTERS):
        raise ConfigError(
            f"scenarios ({len(sides)}): at most {len(LETTERS)} are compared; remove one to add another"
        )
    st.session_state[STATE] = list(sides)


def share(sides: Sequence[Side]) -> None:
    """Write the comparison into the URL."""
    wanted = link(sides)
    for letter in LETTERS.lower():
        if letter in wanted:
            st.query_params[letter] = wanted[letter]
        elif letter in st.query_params:
            del st.query_params[letter]


# -- answer ----------------------------------------------------------------------------------------


def nothing() -> None:
    """No scenario yet: what the page does, and how to begin."""
    panels.lead("No scenario is compared yet: take the one in the sidebar, a published model, or a link")
    st.caption(
        "Up to four scenarios stand side by side: a model on a device, with its work and its split. "
        "The whole comparison is kept in the address of this page, so that a link shows the same to others."
    )


def answer(sides: Sequence[Side]) -> None:
    """The answer, and each scenario's time."""
    cases = labels(sides)
    panels.lead(answers.sentence(cases), *_sources(cases))
    if len(sides) == 1:
        st.caption("One scenario alone says little: add another to compare it with.")
    panels.numbers([_number(name, case) for name, case in cases.items()])


def _sources(cases: dict[str, Resolved]) -> list[Source]:
    found, _ = answers.timed(cases)
    kinds = dict.fromkeys(one.reading.source for one in found)
    return [Source(kind, PREDICTED.detail) for kind in kinds] or [SIZES]


def _number(name: str, case: Resolved) -> Number:
    """Time of a token, what it costs and on how many devices; a no is said with its number."""
    time, cost = compare.cell("time.token", case), compare.cell("cost.prompts", case)
    label = f"{escape(name)}, full size"
    if time.source is None or time.value is None:
        return Number(label, "no time", time.text, SIZES)
    span = f"80 %: {quantity(time.low or 0, 's')} to {quantity(time.high or 0, 's')}"
    where = counted(int(compare.cell("devices", case).value or 1), hardware.title(case.hardware))
    note = f"a token; {span}; {cost.text} a million tokens, prompts included; {where}"
    return Number(label, quantity(float(time.value), "s"), note, Source(time.source, PREDICTED.detail))


def main(sides: Sequence[Side]) -> None:
    """Time per output token over batch."""
    figure = _lines(_key(sides), labels(sides))
    if figure is None:
        st.info("No scenario here has published kernel times: pick a device of the list on Memory.")
        return
    caveat = "full size, planned anew at every batch; rings are the batches compared"
    panels.show(figure, "compare_time", _drawn(sides), caveat=caveat, cases=labels(sides))


def memory(sides: Sequence[Side]) -> None:
    """What the fullest device of each scenario holds."""
    figure = _bars(_key(sides), labels(sides))
    if figure is None:
        st.info("None of these scenarios fits any number of devices: shorten the context or lower the batch.")
        return
    panels.show(figure, "compare_memory", SIZES, caveat="full size", cases=labels(sides))


def _drawn(sides: Sequence[Side]) -> Source:
    """Points differ in provenance: the chart shows which is which."""
    every = _sources(labels(sides))
    detail = "filled points are measured elsewhere, hollow ones modelled; " + PREDICTED.detail
    return Source("modelled" if len(every) > 1 else every[0].kind, detail)


def _key(sides: Sequence[Side]) -> str:
    return urlencode([(side.name, side.case.fingerprint()) for side in sides])


@st.cache_resource(show_spinner=False, max_entries=128)
def _lines(key: str, _cases: dict[str, Resolved]) -> Figure | None:
    rows = tables.decode(_cases)
    here = {name: case.batch for name, case in _cases.items()}
    return None if rows.empty else charts.lines(rows, _mixtures(_cases), here)


@st.cache_resource(show_spinner=False, max_entries=128)
def _bars(key: str, _cases: dict[str, Resolved]) -> Figure | None:
    rows = tables.footprints(_cases)
    return None if rows.empty else charts.bars(rows)


def _mixtures(cases: dict[str, Resolved]) -> dict[str, bool]:
    return {name: case.model.routing is not None for name, case in cases.items()}


# -- table -----------------------------------------------------------------------------------------


def table(sides: Sequence[Side]) -> None:
    """Everything side by side: what was chosen, what follows, where they differ and which is best."""
    cases = labels(sides)
    rows = compare.table(cases)
    several = len(sides) > 1
    frame = pd.DataFrame(
        {
            "Full size": [row.title for row in rows],
            **({"Differs": ["**≠**" if row.differs else "" for row in rows]} if several else {}),
            **{escape(name): [_shown(row, at) for row in rows] for at, name in enumerate(cases)},
        }
    )
    st.table(frame, border="horizontal", hide_index=True, alt="The scenarios side by side")
    if several:
        st.caption("≠ marks rows that differ; best, and ratios to it, stand where more or less is better.")
    st.download_button(
        "The table as CSV", _csv(rows, list(cases)), "moescope-comparison.csv", "text/csv",
        on_click="ignore", icon=":material/download:", key="compare_csv",
    )  # fmt: skip


def _shown(row: Line, at: int) -> str:
    """One cell as Markdown: the value, its interval, how it stands to the best, its provenance."""
    cell = row.cells[at]
    text = escape(cell.text)
    if row.differs:
        text = f"**{text}**"
    parts = [text, _standing(row, at), _interval(row, cell)]
    if cell.source:
        parts.append(panels.mark(cell.source))
    return " ".join(part for part in parts if part)


def _standing(row: Line, at: int) -> str:
    value = row.cells[at].value
    if not row.best or not isinstance(value, int | float):
        return ""
    if at in row.best:
        return ":material/check: best"
    top = row.cells[row.best[0]].value
    return f"{significant(value / top, 2)}×" if isinstance(top, int | float) and top else ""


def _interval(row: Line, cell: Cell) -> str:
    if cell.low is None or cell.high is None:
        return ""
    ends = [compare.written(float(end), row.unit) for end in (cell.low, cell.high)]
    return f":small[:gray[{escape(' to '.join(ends))}]]"


def _csv(rows: Sequence[Line], names: Sequence[str]) -> str:
    """A row a cell: nothing in it is a formula."""
    lines = [
        {"row": row.title, "scenario": safe(name), "text": safe(cell.text), "value": safe(cell.value),
         "unit": row.unit, "low": cell.low, "high": cell.high, "source": cell.source, "differs": row.differs}
        for row in rows
        for name, cell in zip(names, row.cells, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(lines).to_csv(index=False)


def links(sides: Sequence[Side]) -> None:
    """The link of this comparison, and what the command line says for the same."""
    query = urlencode(link(sides))
    st.caption("Everything is in this link, packed models included; nothing has to be saved first.")
    st.code(f"{_address()}/compare?{query}", language=None, wrap_lines=True)
    st.caption("The same table on the command line:")
    said = " ".join(f"--scenario '{one}'" for one in link(sides).values())
    st.code(f"python -m moe_core compare {said}", language="bash", wrap_lines=True)


def _address() -> str:
    """Where this dashboard answers, without page and query."""
    parts = urlsplit(st.context.url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
