"""Every format opens with a reader of its own, says what the page said, and carries its manifest."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image
from pypdf import PdfReader

from moe_core.errors import ConfigError
from moe_core.report import embed, formats
from moe_core.report.formats import FORMATS
from moe_core.report.manifest import Manifest
from moe_core.report.palette import PALETTES
from tests.report.examples import ATTACKS, anything, figure, manifest

FIGURE, MANIFEST = figure(), manifest()


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return {name: one.make(FIGURE, MANIFEST, "light") for name, one in FORMATS.items()}


@pytest.mark.parametrize("ending", [name for name in FORMATS if name != "csv"])
def test_the_manifest_comes_back_out_of_the_file(made: dict[str, bytes], ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"figure.{ending}"
    path.write_bytes(made[ending])
    assert embed.read(path) == MANIFEST


def test_a_csv_is_clean_and_says_where_its_manifest_is(made: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "figure.csv").write_bytes(made["csv"])
    (tmp_path / "figure.manifest.json").write_bytes(formats.sidecar(FIGURE, MANIFEST))
    with pytest.raises(ConfigError, match="the file beside it"):
        embed.read(tmp_path / "figure.csv")
    assert embed.read(tmp_path / "figure.manifest.json") == MANIFEST
    back = pd.read_csv(io.BytesIO(made["csv"]))
    pd.testing.assert_frame_equal(back, FIGURE.data, check_dtype=False)
    assert made["csv"].startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("theme", PALETTES)
def test_a_png_has_the_background_of_its_theme_and_something_on_it(theme: str) -> None:
    image = Image.open(io.BytesIO(formats.png(FIGURE, MANIFEST, theme)))
    assert image.info["Title"] == FIGURE.title
    image = image.convert("RGB")
    background = tuple(int(PALETTES[theme].background[i : i + 2], 16) for i in (1, 3, 5))
    assert image.width > 1200
    assert image.getpixel((image.width - 1, image.height - 1)) == background
    assert len(image.getcolors(maxcolors=100_000) or []) > 20


def test_an_svg_says_title_unit_source_version_and_date(made: dict[str, bytes]) -> None:
    root = ElementTree.fromstring(made["svg"])
    words = " ".join(part.text or "" for part in root.iter())
    for said in (
        FIGURE.title,
        "memory (B)",
        "modelled: closed form",
        f"MoEScope {MANIFEST.versions['moescope']}",
    ):
        assert said in words
    assert MANIFEST.date in words
    assert b"http://" not in made["svg"].replace(b"http://www.w3.org", b"")


def test_a_pdf_is_one_page_of_text_not_a_picture(made: dict[str, bytes]) -> None:
    found = PdfReader(io.BytesIO(made["pdf"]))
    assert len(found.pages) == 1
    words = found.pages[0].extract_text()
    assert FIGURE.title in words
    assert "mixture" in words
    assert found.metadata is not None
    assert found.metadata.title == FIGURE.title


def test_a_parquet_has_the_rows_with_their_types(made: dict[str, bytes]) -> None:
    table = pq.read_table(io.BytesIO(made["parquet"]))
    assert [str(field.type) for field in table.schema] == ["string", "double", "int64"]
    assert table.to_pylist() == FIGURE.data.to_dict("records")


def test_json_is_vega_lite_with_its_data(made: dict[str, bytes]) -> None:
    spec = json.loads(made["json"])
    assert spec["datasets"]["rows"] == FIGURE.data.to_dict("records")
    assert spec["title"]["text"] == [FIGURE.title]


def test_html_forbids_every_request_and_names_no_address(made: dict[str, bytes]) -> None:
    text = made["html"].decode()
    assert "default-src 'none'" in text
    assert not re.search(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=.?(?:https?:)?//", text)


def test_columns_of_mixed_kinds_become_text() -> None:
    odd = FIGURE._replace(
        data=pd.DataFrame({"a": [1, "x", None], "b": [None, None, None], "c": [(1,), {}, 2.0]})
    )
    table = pq.read_table(io.BytesIO(formats.parquet(odd, MANIFEST)))
    assert table["a"].to_pylist() == ["1", "x", None]


@pytest.mark.parametrize(
    "damage", [b"\x89PNG\r\n\x1a\n", b"%PDF-1.7", b"PK\x03\x04zz", b"PAR1", b"{", b"<svg/>", b""]
)
def test_a_damaged_file_is_one_sentence(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(damage)
    with pytest.raises(ConfigError):
        embed.read(path)


def test_a_manifest_without_its_schema_is_refused() -> None:
    with pytest.raises(ConfigError, match="schema"):
        Manifest.parse_json('{"what": "figure", "title": "x", "date": "2026-01-01"}')


@pytest.mark.parametrize("text", ATTACKS)
def test_no_text_breaks_a_drawing(text: str) -> None:
    hostile, words = figure(text, text), manifest(text, text)
    drawn = formats.svg(hostile, words)
    ElementTree.fromstring(drawn)
    for banned in (b"<script", b"onerror=alert", b"<img"):
        assert banned not in drawn.replace(b"&lt;", b"").lower() or b"&lt;" in drawn
    assert not [
        node.tag for node in ElementTree.fromstring(drawn).iter() if node.tag.endswith(("script", "img"))
    ]
    assert embed.extract(drawn) == words.to_json()
    assert formats.png(hostile, words).startswith(b"\x89PNG")
    assert len(PdfReader(io.BytesIO(formats.pdf(hostile, words))).pages) == 1


@given(anything, anything)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_text_is_computed_by_a_spreadsheet_or_lost(label: str, title: str) -> None:
    hostile, words = figure(label, title), manifest(title, title)
    rows = list(csv.reader(io.StringIO(formats.csv(hostile).decode("utf-8-sig"))))
    assert len(rows) == 3
    assert not any(value.lstrip(" \n").startswith(("=", "+", "-", "@", "\t", "\r")) for value in rows[1])
    assert pq.read_table(io.BytesIO(formats.parquet(hostile, words))).num_rows == 2
    spec = json.loads(formats.vega(hostile, words))
    assert Manifest.parse_json(json.dumps(spec["usermeta"]["moescope-manifest"])) == words
    page = formats.html(hostile, words).decode()
    assert page.count("<script") == 4
    assert "<img" not in page.split("<script>")[0]


def test_a_label_cut_inside_a_character_is_drawn_all_the_same() -> None:
    """Vega shortens long labels by 16-bit halves."""
    for offset in range(3):
        odd = figure("x" * offset + "\N{MATHEMATICAL BOLD SMALL K}\N{ROCKET}" * 40, "\N{ROCKET}" * 200)
        assert formats.svg(odd, manifest()).startswith(b"<svg")
