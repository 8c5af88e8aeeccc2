"""Memory in a browser: a price typed into the table decides what is cheapest, and survives other pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Server, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]


def test_a_typed_price_decides_and_is_kept(server: Server, visit: Callable[..., Page]) -> None:
    page = visit(server, "memory?architecture=Mixtral-8x7B&hardware=H100")
    cheapest = page.get_by_text("the cheapest by the hour is")
    before = cheapest.inner_text()
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box is not None
    page.mouse.dblclick(box["x"] + 150, box["y"] + 50)  # first row, the column after the device's name
    page.keyboard.press("Control+A")
    page.keyboard.type("0.01")
    page.keyboard.press("Enter")
    page.get_by_text("the cheapest by the hour is 2 × H100").wait_for()
    assert "H100" not in before
    page.get_by_role("link", name="Architectures").click()
    page.get_by_role("heading", name="Mixtral-8x7B keeps").wait_for()
    page.get_by_role("link", name="Memory").click()
    settle(page)
    page.get_by_text("the cheapest by the hour is 2 × H100").wait_for()
