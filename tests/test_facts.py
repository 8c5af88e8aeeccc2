"""Facts: each read at a source that can be opened, or not in the product; defaults rest on primary ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moe_core import hardware, registry
from moe_core.decide import rules
from moe_core.decide.pair import pair
from moe_core.scenario.decision import decision
from moe_core.scenario.memory import listed_prices
from moe_core.scenario.spec import HARDWARE, Scenario

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data"
TEXTS = sorted(path for path in DATA.rglob("*") if path.suffix in {".toml", ".json", ".md", ".py"})
CODE = sorted(path for room in ("moe_core", "app", "pages") for path in (ROOT / room).rglob("*.py"))
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NEVER_READ = re.compile(r"\brecalled\b|to be confirmed|not re-read|checked = false|^grade = \"R\"", re.M)

_TOP = "com|co|org|ai|io|dev|net|cn|de|uk|se|cz|jp|codes|pages"
_PLACES = (
    rf"\b[\w-]+(\.[\w-]+)*\.({_TOP})\b",  # a page
    r"\barXiv:\d{4}\.\d{4,5}\b",
    r"\bgithub:[\w.-]+/[\w.-]+",
    r"\btransformers \d+\.\d+",  # an installed release, whose classes say it
    r"\b(data|docs)/[\w./-]+",  # computed from what stands in this repository
    r"\b(report|\.pdf|unit tests|model card|blog)\b",  # a document by its name
)
OPENED = re.compile("|".join(_PLACES), re.I)
_CARD = re.compile(r"\b(model name|card|collection page|documentation|configuration files)\b", re.I)


@pytest.mark.parametrize("path", [*TEXTS, *CODE, *DOCS], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_says_that_it_was_never_read(path: Path) -> None:
    found = NEVER_READ.search(path.read_text(encoding="utf-8"))
    assert found is None, f"{path.name}: {found and found.group()!r}: read the source, or leave the fact out"


def test_grades_are_read_second_hand_or_computed() -> None:
    assert set(rules.GRADES) == {"P", "S", "C"}
    assert {device.grade for device in hardware.devices()} == {"P", "S"}


@pytest.mark.parametrize("device", hardware.devices(), ids=lambda device: device.name)
def test_a_device_names_what_was_read(device: hardware.Hardware) -> None:
    assert OPENED.search(device.source)
    assert device.source.startswith("second-hand: ") == (device.grade == "S")


@pytest.mark.parametrize("device", hardware.devices(), ids=lambda device: device.name)
def test_a_price_names_who_asks_it_and_when(device: hardware.Hardware) -> None:
    assert bool(device.usd_per_hour) == bool(device.price_source)
    if device.usd_per_hour:
        assert OPENED.search(device.price_source)
        assert re.search(r"\b20\d\d(-\d\d-\d\d)?\b", device.price_source)


@pytest.mark.parametrize("device", hardware.devices(), ids=lambda device: device.name)
def test_watts_name_who_says_them(device: hardware.Hardware) -> None:
    assert bool(device.watts) == bool(device.watts_source)
    if device.watts:
        assert OPENED.search(device.watts_source)
        assert "read 20" in device.watts_source


@pytest.mark.parametrize("record", [*registry.records(), *registry.rumours()], ids=lambda record: record.name)
def test_a_model_names_what_was_read(record: registry.Record) -> None:
    for source in record.sources:
        assert OPENED.search(source), source
    for source in (record.published.source, record.released_source):
        named = record.hf_id is not None and _CARD.search(source)  # the record links to its page
        assert OPENED.search(source) or named, source
    for note in record.notes:
        assert not note.startswith("Context length") or OPENED.search(note), note


def test_findings_and_pairs_name_what_was_read() -> None:
    for fact in (*rules.facts().values(), *rules.known_pairs()):
        assert OPENED.search(fact.source), fact.source


def test_the_first_screen_rests_on_primary_sources() -> None:
    asked = decision(Scenario())
    found = pair(asked)
    known = [one for one in rules.known_pairs() if one.mixture == found.of("mixture").name]
    assert [(one.dense, one.grade) for one in known] == [("Qwen3-14B", "P")]
    assert "table 5" in known[0].source
    default = hardware.get(asked.hardware)
    assert default.name == HARDWARE
    assert default.grade == "P"
    assert default.usd_per_hour > 0


def test_a_device_without_a_price_has_none_invented() -> None:
    without = {device.name for device in hardware.devices() if not device.usd_per_hour}
    assert without
    prices = listed_prices()
    assert not without & set(prices)
    assert prices["H100"] == hardware.get("H100").usd_per_hour
