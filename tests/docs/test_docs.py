"""The documents agree with the code: the reference is fresh, every path and link in them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from docs import make, pictures
from moe_core.cli import COMMANDS
from moe_core.settings import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = {path.name: path for path in (*PAGES, ROOT / "README.md")}
EXAMPLES = set(  # files that a reader of extending.md makes
    re.findall(r"^`([^`\n]+)`, new:", TEXTS["extending.md"].read_text(encoding="utf-8"), re.M)
)


def test_what_is_generated_is_fresh() -> None:
    assert make.stale() == []


def test_every_command_has_its_section() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.M) == [one.__name__ for one in COMMANDS]


@pytest.mark.parametrize("name", TEXTS)
def test_every_path_in_the_text_exists(name: str) -> None:
    text = TEXTS[name].read_text(encoding="utf-8")
    rooms = r"(?:app|moe_core|pages|data|docs|tests|benchmarks)"
    named = set(re.findall(rf"`({rooms}/[\w./-]+)`", text))
    gone = [path for path in named - EXAMPLES if not (ROOT / path).exists() and path != "data/state"]
    assert not gone, gone


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_somewhere(name: str) -> None:
    here = TEXTS[name]
    for target in re.findall(r"\]\(([^)\s]+)\)", here.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        other = (here.parent / file).resolve() if file else here
        assert other.exists(), target
        if anchor:
            assert anchor in anchors(other), target


def anchors(path: Path) -> set[str]:
    """Headings as GitHub names them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_module_with_an_equation_is_in_the_account() -> None:
    """A number that has a file of its own in `perf` has its place in the document."""
    text = (ROOT / "docs" / "how-each-number-is-computed.md").read_text(encoding="utf-8")
    wanted = ("params", "memory", "fit", "cache", "distinct", "moe_layer", "expert_load", "gemm", "comm")
    more = ("attention_time", "step_time", "dense_equivalent", "twins", "economics", "device_model")
    assert not [name for name in (*wanted, *more) if f"moe_core/perf/{name}.py" not in text]


@pytest.mark.parametrize("name", ["overview", "routing", "economics", "decide", "compare"])
def test_the_tour_has_its_pictures(name: str) -> None:
    path = ROOT / "docs" / f"{name}.png"
    assert f"docs/{name}.png" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert path.stat().st_size <= pictures.MOST
    with Image.open(path) as image:
        assert image.size == (pictures.WIDE, pictures.HIGH)
