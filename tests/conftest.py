"""Fixtures every test may use: a private state directory, and synthetic runs without torch.

Tests hold on any machine, however busy. So they choose how torch computes, whatever the caller's
environment says: one thread for each test process and no spinning, both read once when torch is
imported. And hypothesis sets nobody a time limit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
hypothesis_settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("any machine")

from moe_core.settings import Settings  # noqa: E402
from tests import skips, synthetic  # noqa: E402
from tests.shelf import shelf as shelf  # noqa: E402

# What takes longest begins first, so that no process is left alone with it at the end.
FIRST = (
    *("browser/test_dashboard", "docs/test_extending", "silicon/", "runs/test_execute", "report/test_story"),
    *("nn/test_checkpoint", "browser/", "runs/", "pages/test_economics", "pages/", "cli/test_export"),
    *("test_cli", "test_fuzz", "hf/"),
)


# What opens the app, runs models or starts processes, test after test: all of it is left to `make test`.
SLOW = (
    *("pages", "jobs/test_worker.py", "jobs/test_supervisor.py", "test_cli.py", "cli/test_calibrate.py"),
    *("runs/test_execute.py", "runs/test_admission.py", "gpu/test_bench.py", "gpu/test_benchmark.py"),
    *("store/test_routing.py", "store/test_db.py", "store/test_reviews.py"),
    *("silicon/workshop/test_served.py", "dist/", "labs/training/test_all_to_all.py"),
    *("report/test_story.py", "report/test_decided.py", "report/test_formats.py", "report/test_compare.py"),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow places marked; files in the order in which they are dealt out: each stays in one process."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=_rank)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test that could have run fails the run. In the process that hears of all tests only."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    skipped = [
        (report.nodeid, report.longrepr[2].removeprefix("Skipped: "))
        for report in reporter.stats.get("skipped", [])
    ]
    for line in skips.unfounded(skipped):
        reporter.write_line(line, red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _rank(item: pytest.Item) -> int:
    file = item.nodeid.removeprefix("tests/")
    return next((at for at, start in enumerate(FIRST) if file.startswith(start)), len(FIRST))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty installation in its own directory; MOE_DATA_DIR points there too."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MOE_{name.upper()}", raising=False)
    monkeypatch.setenv("MOE_DATA_DIR", str(tmp_path / "state"))
    return Settings.load()


@pytest.fixture
def bundle_dir(settings: Settings) -> Callable[..., Path]:
    """Write a synthetic run into the installation: `bundle_dir(RunSpec(...), seed=1) -> Path`."""

    def write(*args: object, **options: object) -> Path:
        return synthetic.write_bundle(settings.runs_dir, *args, **options)  # type: ignore[arg-type]

    return write


@pytest.fixture(scope="session")
def drawn_once() -> Iterator[None]:
    """The renderer draws each picture once: a report of several formats, or of several texts, shares them."""
    import vl_convert

    known: dict[str, Any] = {}

    def once(draw: Callable[..., Any]) -> Callable[..., Any]:
        def drawn(picture: Any, **options: Any) -> Any:
            key = json.dumps([draw.__name__, picture, options], sort_keys=True)
            if key not in known:
                known[key] = draw(picture, **options)
            return known[key]

        return drawn

    with pytest.MonkeyPatch.context() as patch:
        for name in ("vegalite_to_svg", "svg_to_pdf", "svg_to_png"):
            patch.setattr(vl_convert, name, once(getattr(vl_convert, name)))
        yield
