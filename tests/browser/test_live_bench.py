"""The whole house: a browser, the server, its worker. Moving a slider changes what is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import serve, settle

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
]

EXPERTS = "input[type=range][aria-label='Experts']"
RUN_MS = 900_000  # start of the worker included, on one core that is busy


def test_moving_the_experts_slider_changes_the_heatmap(tmp_path: Path, visit: Callable[..., Page]) -> None:
    with serve(tmp_path / "state", "managed") as server:
        page = visit(server, "?batch=1&seq=32&experts=16")
        page.set_default_timeout(RUN_MS)
        heatmap = page.locator(".st-key-figure_load [data-testid=stVegaLiteChart]").first
        _landed(page, 16)
        before = heatmap.screenshot()
        slider = page.locator(EXPERTS)
        slider.focus()
        page.keyboard.press("ArrowRight")
        _landed(page, 32)
        assert heatmap.screenshot() != before
        assert (server.data_dir / "runs").exists()


def _landed(page: Page, experts: int) -> None:
    """Wait until this device's own answer for so many experts is on the page, and nothing is dimmed."""
    page.wait_for_function(
        """experts => {
            const chart = document.querySelector('.st-key-figure_load');
            const label = chart && chart.querySelector('[aria-label*="experts in"]');
            const styles = [...document.querySelectorAll('style')];
            const dimmed = styles.some(style => style.textContent.includes('st-key-result'));
            return label && label.getAttribute('aria-label').includes(`of ${experts} experts`)
                && !document.querySelector('[role=progressbar]') && !dimmed;
        }""",
        arg=experts,
    )
    settle(page)
