"""An experiment from the button to its curves: they grow while it trains, the page stands still, it stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import serve, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(2400)]

RUN_MS = 1_200_000  # start of the worker included, on one core that is busy


def test_a_quick_run_is_seen_live_and_stays(tmp_path: Path, visit: Callable[..., Page]) -> None:
    with serve(tmp_path / "state", "managed") as server:
        page = visit(server, "balancing?batch=1&seq=32")
        page.set_default_timeout(RUN_MS)
        page.evaluate("window.stood = true")  # a page that is loaded anew would have forgotten it
        assert not page.get_by_role("progressbar").count()  # nothing started by itself
        page.get_by_role("button", name="Collapse without balancing: run it here, quick").click()
        curve = page.locator(".st-key-live_collapse_live_curve")
        curve.wait_for()
        first = curve.inner_text()
        page.wait_for_function(
            "before => { const now = document.querySelector('.st-key-live_collapse_live_curve');"
            " return !now || now.innerText !== before; }",
            arg=first,
        )
        expect(page.locator(".st-key-live_collapse_live_load")).to_be_visible()
        kept = page.locator(".st-key-figure_collapse_curves")  # over the shipped curves, where there are any
        kept.get_by_text("measured here").first.wait_for()
        settle(page)
        expect(page.get_by_role("progressbar")).to_have_count(0)
        expect(page.get_by_role("heading", level=1)).to_contain_text("the busiest expert does")
        expect(curve).to_have_count(0)
        assert page.evaluate("window.stood")
        assert not list((server.data_dir / "live").glob("*.json"))


def test_what_was_started_goes_on_when_its_page_is_closed(tmp_path: Path, visit: Callable[..., Page]) -> None:
    with serve(tmp_path / "state", "managed") as server:
        page = visit(server, "experiments?batch=1&seq=32")
        page.set_default_timeout(RUN_MS)
        page.get_by_role("button", name="Quick").first.click()  # gates, a few seconds of work
        page.get_by_text("queued, 0%").or_(page.get_by_text("running,")).first.wait_for()
        page.close()
        again = visit(server, "experiments?batch=1&seq=32")
        again.set_default_timeout(RUN_MS)
        for _ in range(240):
            if again.get_by_text("run here, quick").count():
                break
            again.wait_for_timeout(5_000)
            again.reload()
            settle(again)
        expect(again.get_by_text("run here, quick").first).to_be_visible()
