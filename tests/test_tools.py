"""What the tests themselves stand on: the browser's installation and the load of a busy machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import install_browser, skips
from tests.install_browser import Attempt
from tests.jobs.fake import wait_for

BUSY = (sys.executable, str(Path(__file__).with_name("busy.py")))


def test_the_first_way_that_succeeds_is_the_last_one_tried() -> None:
    tried: list[str] = []

    def way(name: str, done: bool) -> Attempt:
        tried.append(name)
        return Attempt(done, f"{name} failed")

    ways = (lambda: way("a", False), lambda: way("b", True), lambda: way("c", True))
    assert install_browser.install(ways) == []
    assert tried == ["a", "b"]


def test_without_a_browser_one_sentence_says_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_browser, "find", lambda: None)
    monkeypatch.setattr(install_browser, "apt_install", lambda: Attempt(False, "there is no apt-get"))
    monkeypatch.setattr(install_browser, "playwright_install", lambda: Attempt(False, "'it' ended with 7"))
    with pytest.raises(SystemExit) as ended:
        install_browser.main()
    assert "(there is no apt-get; 'it' ended with 7)" in str(ended.value)
    assert "\n" not in str(ended.value)


def test_a_command_that_fails_shows_its_last_lines(capsys: pytest.CaptureFixture[str]) -> None:
    script = "import sys; print(*range(100), sep='\\n'); print('no disk', file=sys.stderr); sys.exit(7)"
    attempt = install_browser.command([sys.executable, "-c", script])
    assert not attempt.done
    assert attempt.why.endswith("ended with 7")
    shown = capsys.readouterr().err
    assert "no disk" in shown
    assert "99" in shown
    assert "\n10\n" not in shown


def test_a_command_that_succeeds_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert install_browser.command([sys.executable, "-c", "print('much')"]) == Attempt(True)
    assert capsys.readouterr() == ("", "")


def children(process: subprocess.Popen[bytes], count: int) -> list[psutil.Process]:
    parent = psutil.Process(process.pid)
    wait_for(lambda: len(parent.children()) == count, f"{count} processes")
    return parent.children()


@pytest.mark.parametrize("status", [0, 3])
def test_the_load_ends_with_its_command(status: int) -> None:
    ended = subprocess.run([*BUSY, "--load", "2", "--", sys.executable, "-c", f"raise SystemExit({status})"])
    assert ended.returncode == status


def test_the_load_is_as_large_as_asked_and_ends_when_told() -> None:
    with subprocess.Popen([*BUSY, "--load", "3"]) as process:
        busy = children(process, 3)
        process.terminate()
    assert not [one for one in busy if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_the_load_does_not_outlive_what_made_it() -> None:
    with subprocess.Popen([*BUSY, "--load", "2"]) as process:
        busy = children(process, 2)
        process.kill()  # it can end nothing any more
    _, alive = psutil.wait_procs(busy, timeout=120)
    assert not alive


@pytest.mark.parametrize(
    ("reason", "holds", "founded"),
    [
        ("only here, of all places", True, True),
        ("only here, of all places", False, False),
        ("not finished", True, False),
        ("", True, False),
    ],
)
def test_a_test_may_be_skipped_only_where_it_cannot_run(reason: str, holds: bool, founded: bool) -> None:
    lines = skips.unfounded([("test_x", reason)], {"only here": lambda: holds})
    assert (not lines) == founded
    assert all("test_x" in line for line in lines)


SKIPPING = """
import pytest

def test_of_the_future():
    pytest.skip("not finished")
def test_that_passes():
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_run_with_an_unfounded_skip_fails(tmp_path: Path, processes: str) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPPING)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_sessionfinish\n")
    command = [sys.executable, "-m", "pytest", "-q", "-n", processes, "-p", "no:cacheprovider", str(tmp_path)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "was skipped, and could run here: not finished" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout
