"""The app on an empty and on a filled installation, without a worker and without a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from moe_core.perf import calibrate
from moe_core.settings import ROOT, Settings
from moe_core.specs import RunSpec

PAGES = ("overview", "routing", "memory", "runs", "speed")
SPECS = (
    RunSpec(),
    RunSpec(batch=2),
    RunSpec(experts=32),
    RunSpec(experts=32, batch=2),
    RunSpec(lab="topk_sweep"),
    RunSpec(lab="layer_sweep"),
    calibrate.question(),
)


@pytest.fixture
def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    """An app that has not run yet, over the installation of `settings`."""
    monkeypatch.setenv("MOE_WORKER", "external")
    st.cache_resource.clear()
    st.cache_data.clear()
    yield AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    st.cache_resource.clear()  # closes the store


@pytest.fixture
def filled(app: AppTest, bundle_dir: Callable[..., Path]) -> AppTest:
    """The same with seven synthetic runs."""
    now = datetime.now(UTC)
    for index, spec in enumerate(SPECS):
        bundle_dir(spec, seed=index, created=now - timedelta(minutes=index))
    return app


def open_page(app: AppTest, name: str) -> AppTest:
    """Run the app and go to a page; nothing may have failed."""
    app.run()
    assert not app.exception, app.exception
    if name != "overview":
        app.switch_page(f"../pages/{name}.py").run()
    assert not app.exception, app.exception
    return app


def words(app: AppTest) -> str:
    """Everything written on the page, sidebar included."""
    kinds = ("title", "subheader", "markdown", "caption", "warning", "error", "info")
    return "\n".join(str(element.value) for kind in kinds for element in app.get(kind))
