"""The steps of extending.md, done: the files are written as they stand there, the commands are run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moe_core.runs import models
from moe_core.settings import ROOT

pytestmark = [pytest.mark.slow]
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
STEP = re.compile(
    r"^`(?P<path>[^`\n]+)`, (?P<how>new|at the end|after|instead of)(?: `(?P<line>[^\n]+)`)?:\n\n"
    r"```\w+\n(?P<body>.*?)```|^```bash\n(?P<commands>.*?)```",
    re.M | re.S,
)
LENT = ("models", "corpus", "reference", "fonts")  # read only: the copy links to them
RENDER = """
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("app/main.py", default_timeout=60).run()
app.switch_page("../pages/ridge.py").run()
assert not app.exception, app.exception
assert "FLOP" in app.title[0].value, app.title[0].value
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project without its heavy data, which is linked."""
    for room in ("app", "moe_core", "pages", "tests", "docs", ".streamlit", "benchmarks"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
    for file in ("README.md", "pyproject.toml", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / "data").mkdir()
    models.calibrated()  # once for this checkout: a copy would compute it again
    if models.CACHE.exists():
        shutil.copytree(models.CACHE, tmp_path / models.CACHE.relative_to(ROOT))
    for item in (ROOT / "data").iterdir():
        if item.name in LENT:
            (tmp_path / "data" / item.name).symlink_to(item)
        elif item.is_dir() and item.name != "state":
            shutil.copytree(item, tmp_path / "data" / item.name)
        elif item.is_file():
            shutil.copy(item, tmp_path / "data" / item.name)
    return tmp_path


def test_every_section_has_steps_and_a_check() -> None:
    assert [title for title, _ in SECTIONS] == [
        *("An architecture", "A GPU", "A rule of the verdict", "A default"),
        *("A router", "A kernel", "A recorded column", "A page", "A lab"),
    ]
    for _, body in SECTIONS:
        found = list(STEP.finditer(body))
        assert any(step["path"] for step in found)
        assert any(step["commands"] for step in found)
        assert body.count("```") == 2 * len(found)  # no block that nobody does


@pytest.mark.parametrize("section", [title for title, _ in SECTIONS])
def test_the_steps_work(section: str, copy: Path) -> None:
    for step in STEP.finditer(dict(SECTIONS)[section]):
        if step["commands"]:
            for line in step["commands"].strip().splitlines():
                run(copy, line)
        else:
            write(copy / step["path"], step["how"], step["line"], step["body"])
    run(copy, "python -m ruff check app moe_core pages tests")
    run(copy, "python -m ruff format --check app moe_core pages tests")
    if section == "A page":
        run(copy, f"python -W ignore -c {shlex.quote(RENDER)}")


def write(path: Path, how: str, line: str | None, body: str) -> None:
    if how == "new":
        assert not path.exists(), path
        path.parent.mkdir(exist_ok=True)
        path.write_text(body, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if how == "at the end":
        path.write_text(text.rstrip("\n") + "\n" + body, encoding="utf-8")
        return
    assert line is not None
    assert text.count(line) == 1, f"{path.name} has {text.count(line)} times: {line}"
    new = f"{line}\n{body.rstrip()}" if how == "after" else indented(body.strip(), text, line)
    path.write_text(text.replace(line, new), encoding="utf-8")


def indented(body: str, text: str, line: str) -> str:
    """The body as deep as the line that it replaces."""
    before = text[: text.index(line)].rpartition("\n")[2]
    depth = before if before.isspace() else ""
    return body.replace("\n", f"\n{depth}").replace(f"\n{depth}\n", "\n\n")


def run(copy: Path, line: str) -> None:
    words = shlex.split(line)
    assert words[0] == "python"
    environment = {**os.environ, "MOE_DATA_DIR": str(copy / "state"), "MOE_WORKER": "external"}
    environment["PYTHONPATH"] = str(copy)
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=copy, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
