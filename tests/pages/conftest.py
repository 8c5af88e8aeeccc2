"""The app on an empty and on a filled installation, without a worker and without a browser."""

from __future__ import annotations

import functools
import inspect
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from app import data
from moe_core.perf import calibrate
from moe_core.settings import REFERENCE, ROOT, Settings
from moe_core.specs import RunSpec
from moe_core.store import ingest
from moe_core.store.db import Store
from tests import synthetic
from tests.asked import ASKED, SWEEP, asked

PAGES = ("overview", "routing", "memory", "runs", "speed")
SPECS = (
    ASKED,
    asked(batch=2),
    asked(experts=32),
    asked(experts=32, batch=2),
    asked(lab="topk_sweep"),
    SWEEP,
    calibrate.question(),
)
_SCAN = manifest_scanner.scan_component_manifests


@pytest.fixture(scope="session", autouse=True)
def scanned_once() -> Iterator[None]:
    """Each AppTest reads the metadata of every installed package for components: once is enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", functools.cache(_SCAN))
        yield


@pytest.fixture(scope="session")
def installations(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Data directories that were opened once, to be copied: `installations(SPECS, REFERENCE) -> Path`."""

    @functools.cache
    def made(specs: tuple[RunSpec, ...], reference: Path) -> Path:
        settings = Settings(data_dir=tmp_path_factory.mktemp("installation") / "state").prepare()
        now = datetime.now(UTC)
        for index, spec in enumerate(specs):
            created = now - timedelta(minutes=index)
            synthetic.write_bundle(settings.runs_dir, spec, seed=index, created=created)
        store = Store.open(settings)
        ingest.refresh(store, reference)
        store.close()
        return settings.data_dir

    return made


@pytest.fixture
def reference() -> Path:
    """The shipped runs; a module that wants none says so."""
    return REFERENCE


@pytest.fixture
def app(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    reference: Path,
    installations: Callable[..., Path],
) -> Iterator[AppTest]:
    """An app that has not run yet, over the installation of `settings`, with the shipped runs only.

    Caches are kept from test to test: they go by content or by data directory, and every test has a
    directory of its own. A test that patches code starts and leaves with none.
    """
    monkeypatch.setenv("MOE_WORKER", "external")
    patches = "monkeypatch" in inspect.signature(request.function).parameters
    release = _forget if patches else data._open.clear
    release()
    shutil.copytree(installations((), reference), settings.data_dir, dirs_exist_ok=True)
    yield AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=300)
    release()  # closes the store


@pytest.fixture
def filled(app: AppTest, settings: Settings, reference: Path, installations: Callable[..., Path]) -> AppTest:
    """The same with seven synthetic runs."""
    shutil.copytree(installations(SPECS, reference), settings.data_dir, dirs_exist_ok=True)
    return app


def _forget() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


def open_page(app: AppTest, name: str) -> AppTest:
    """Open a page as a link does; nothing may have failed."""
    if name != "overview":
        app.switch_page(f"../pages/{name}.py")
    app.run()
    assert not app.exception, app.exception
    return app


def words(app: AppTest) -> str:
    """Everything written on the page, sidebar included."""
    kinds = ("title", "header", "subheader", "markdown", "caption", "warning", "error", "info")
    return "\n".join(str(element.value) for kind in kinds for element in app.get(kind))
