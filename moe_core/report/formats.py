"""Formats: one figure as a file. No browser, no network; every file stands on its own.

A file says what the page says around the chart: title, provenance, version, date, the colours of the
theme. Its manifest is inside; a CSV stays clean and has it in a file beside it (`sidecar`).
"""

from __future__ import annotations

import csv as tables
import hashlib
import io
import json
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import vl_convert

from moe_core.report import embed
from moe_core.report.figure import Figure, standalone
from moe_core.report.letters import FONTS
from moe_core.report.manifest import NAME, Manifest
from moe_core.report.markup import page, text
from moe_core.report.palette import PALETTES
from moe_core.report.text import cell, clean, line, short

SCALE = 2.0  # of a PNG, over the screen's resolution


class Format(NamedTuple):
    """How one format is called, served and made."""

    label: str
    mime: str
    make: Callable[[Figure, Manifest, str], bytes]


def png(figure: Figure, manifest: Manifest, theme: str = "light") -> bytes:
    """A PNG at twice the screen's resolution."""
    return embed.into_png(
        bytes(vl_convert.svg_to_png(_drawn(figure, manifest, theme), scale=SCALE)), manifest
    )


def svg(figure: Figure, manifest: Manifest, theme: str = "light") -> bytes:
    """An SVG with title and description."""
    return embed.into_svg(_drawn(figure, manifest, theme), manifest, clean(figure.alt)).encode()


def pdf(figure: Figure, manifest: Manifest, theme: str = "light") -> bytes:
    """A PDF of one page, as large as the figure; text stays text."""
    return embed.into_pdf(bytes(vl_convert.svg_to_pdf(_drawn(figure, manifest, theme))), manifest)


def html(figure: Figure, manifest: Manifest, theme: str = "light") -> bytes:
    """The living chart, tooltips and all, with its rows: one file that asks nothing of any network."""
    spec = json.dumps(complete(figure, manifest, theme)).replace("<", "\\u003c").replace("&", "\\u0026")
    body = (
        f'<main><div id="chart" role="img" aria-label="{text(figure.alt)}"></div>'
        f"<details><summary>Data</summary>{table(figure.data)}</details></main>"
        f'<script type="application/json" id="spec">{spec}</script>'
        f"<script>{_library()}</script><script>{_START}</script>"
    )
    return page(figure.title, body, manifest, PALETTES[theme], living=True).encode()


def csv(figure: Figure, manifest: Manifest | None = None, theme: str = "light") -> bytes:
    """The rows behind the figure, full precision, UTF-8 with a byte order mark so that Excel reads it.

    Text that a spreadsheet would compute is kept text by an apostrophe.
    """
    safe = figure.data.rename(columns=lambda name: cell(str(name))).map(cell)
    return safe.to_csv(index=False, quoting=tables.QUOTE_MINIMAL).encode("utf-8-sig")


def parquet(figure: Figure, manifest: Manifest, theme: str = "light") -> bytes:
    """The rows with their types, text as it is."""
    frame = figure.data.copy()
    frame.columns = pd.Index([clean(str(name)) for name in frame.columns])
    columns = {name: _column(frame[name]) for name in frame.columns}
    words = {NAME: manifest.to_json(), "title": manifest.title, "source": "; ".join(manifest.lines)}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(words), sink, compression="zstd")
    return sink.getvalue()


def vega(figure: Figure, manifest: Manifest, theme: str = "light") -> bytes:
    """Complete Vega-Lite, data inside: any Vega-Lite viewer draws it, any JSON reader reads it."""
    spec = complete(figure, manifest, theme)
    return json.dumps(spec | {"usermeta": {NAME: json.loads(manifest.to_json())}}, allow_nan=False).encode()


def sidecar(figure: Figure, manifest: Manifest, theme: str = "light") -> bytes:
    """The manifest alone: the file beside a CSV."""
    return manifest.to_json().encode()


def complete(figure: Figure, manifest: Manifest, theme: str = "light") -> dict[str, Any]:
    """The figure as complete Vega-Lite, with what its manifest says under the title."""
    return standalone(figure, manifest.lines, theme)


def digest(figure: Figure) -> str:
    """SHA-256 of the CSV: whether two files hold the same rows."""
    return hashlib.sha256(csv(figure)).hexdigest()


FORMATS: dict[str, Format] = {
    "png": Format("PNG", "image/png", png),
    "svg": Format("SVG", "image/svg+xml", svg),
    "pdf": Format("PDF", "application/pdf", pdf),
    "html": Format("HTML", "text/html", html),
    "csv": Format("CSV", "text/csv", csv),
    "parquet": Format("Parquet", "application/vnd.apache.parquet", parquet),
    "json": Format("JSON", "application/json", vega),
}

_START = """
const spec = JSON.parse(document.getElementById("spec").textContent);
vegaEmbed("#chart", spec, {actions: false, renderer: "svg"}).catch(e => {
  document.getElementById("chart").textContent = "This chart could not be drawn: " + e.message;
});
"""
_SHOWN = 1_000  # rows in the table of an HTML file


def _drawn(figure: Figure, manifest: Manifest, theme: str) -> str:
    """The picture that PNG, SVG and PDF share."""
    fonts()
    spec = complete(figure, manifest, theme)
    try:
        return str(vl_convert.vegalite_to_svg(spec))
    except ValueError:  # a label was shortened in the middle of a character beyond 16 bits
        return str(vl_convert.vegalite_to_svg(json.loads(short(json.dumps(spec, ensure_ascii=False)))))


@cache
def fonts() -> None:
    """Make the fonts we ship known to the renderer: two machines then draw the same letters."""
    vl_convert.register_font_directory(str(FONTS))


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, out of the renderer itself."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace(
        "</script", "<\\/script"
    )


def table(frame: pd.DataFrame) -> str:
    """The rows as an HTML table, the first thousand of them."""
    head = "".join(f"<th>{text(str(name))}</th>" for name in frame.columns)
    rows = (
        "<tr>" + "".join(f"<td>{text(str(value))}</td>" for value in row) + "</tr>"
        for row in frame.head(_SHOWN).itertuples(index=False, name=None)
    )
    rest = len(frame) - _SHOWN
    more = f"<p>and {rest:,} rows more: the CSV and Parquet files have all</p>" if rest > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{more}"


def _column(values: pd.Series[Any]) -> pa.Array:
    """A typed column; one of mixed kinds becomes text."""
    if values.dtype.kind in "biufM":
        return pa.array(values, from_pandas=True)
    plain = [None if value is None or value is pd.NA else value for value in values]
    if all(value is None or isinstance(value, str) for value in plain):
        return pa.array([None if value is None else clean(value) for value in plain], pa.string())
    try:
        return pa.array(plain, from_pandas=True)
    except (pa.ArrowException, UnicodeError):
        return pa.array([None if value is None else line(str(value)) for value in plain], pa.string())
