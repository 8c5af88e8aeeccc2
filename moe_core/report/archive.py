"""Archive: a whole page as one HTML file, or as a ZIP of its figures in every format and the manifest."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping
from typing import NamedTuple

from moe_core.report import formats
from moe_core.report.embed import MEMBER
from moe_core.report.figure import Figure
from moe_core.report.manifest import Manifest
from moe_core.report.markup import page, text
from moe_core.report.palette import PALETTES
from moe_core.report.text import plain, slug

IN_ARCHIVE = ("svg", "png", "csv", "parquet", "json")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content is the same file


class Page(NamedTuple):
    """What a page says, in its own Markdown: its answer, its numbers as (label, value, note, source), its
    figures by name."""

    lead: str
    numbers: tuple[tuple[str, str, str, str], ...]
    figures: Mapping[str, Figure]


def html(found: Page, manifest: Manifest, theme: str = "light") -> bytes:
    """The page as a document without scripts: it prints, and opens where nothing is allowed."""
    rows = "".join(
        "<tr>" + "".join(f"<td>{text(plain(words))}</td>" for words in number) + "</tr>"
        for number in found.numbers
    )
    table = f'<div class="wide"><table><tbody>{rows}</tbody></table></div>' if rows else ""
    drawn = "".join(picture(figure, manifest, theme) for figure in found.figures.values())
    lead = plain(found.lead)
    body = f"<main><h1>{text(lead)}</h1>{table}{drawn}{colophon(manifest)}</main>"
    return page(lead, body, manifest, PALETTES[theme]).encode()


def archive(found: Page, manifest: Manifest, theme: str = "light") -> bytes:
    """The page and every figure in every form, the manifest beside them."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        _add(file, MEMBER, manifest.to_json().encode())
        _add(file, "page.html", html(found, manifest, theme))
        for name, figure in found.figures.items():
            for ending in IN_ARCHIVE:
                data = formats.FORMATS[ending].make(figure, manifest, theme)
                _add(file, f"figures/{slug(name)}.{ending}", data)
    return sink.getvalue()


def picture(figure: Figure, manifest: Manifest, theme: str = "light") -> str:
    """A figure inside a document. As an image: what is in it cannot reach what is around it."""
    data = base64.b64encode(formats.svg(figure, manifest, theme)).decode()
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{text(figure.alt)}" style="max-width:100%">'
    return f"<figure>{image}</figure>"


def colophon(manifest: Manifest) -> str:
    """Where the numbers come from and what wrote the file."""
    lines = "".join(f"<li>{text(line)}</li>" for line in manifest.lines)
    how = "The manifest is inside this file: python -m moe_core reproduce FILE makes its numbers again."
    return f'<h2>Sources</h2><ul class="faded">{lines}<li>{text(how)}</li></ul>'


def _add(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    file.writestr(entry, data)
