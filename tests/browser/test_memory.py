"""Memory in a browser: a typed price decides what is cheapest, and no click is lost while it is typed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

CHEAPEST = "the cheapest by the hour is 2 × H100, \\$0.0200"


def type_price(page: Page, price: str) -> None:
    """Type into the first row of the price list, its second column, as fast as a person does."""
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    box = table.bounding_box()
    assert box is not None
    page.mouse.dblclick(box["x"] + 200, box["y"] + 50)
    page.locator(".gdg-input").wait_for()
    page.wait_for_timeout(300)
    page.keyboard.press("Control+A")
    page.keyboard.type(price, delay=80)
    page.wait_for_timeout(200)
    page.keyboard.press("Enter")
    page.locator(".gdg-input").wait_for(state="detached")


@pytest.mark.parametrize("after_ms", [200, 500, 900])
def test_a_link_clicked_just_after_a_price_opens_its_page_and_the_price_is_kept(
    server: Server, visit: Callable[..., Page], after_ms: int
) -> None:
    page = visit(server, "memory?architecture=Mixtral-8x7B&hardware=H100")
    assert "H100" not in page.get_by_text("the cheapest by the hour is").inner_text()
    type_price(page, "0.01")
    page.wait_for_timeout(after_ms)
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Architectures").click()
    expect(page).to_have_url(re.compile("/architectures"))
    page.get_by_role("heading", name="Mixtral-8x7B keeps").wait_for()
    settle(page)
    expect(page).to_have_url(re.compile("/architectures"))
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Memory").click()
    page.get_by_text(re.compile(CHEAPEST)).wait_for()
    settle(page)
    expect(page.get_by_text(re.compile(CHEAPEST))).to_be_visible()
    type_price(page, "0.02")  # the list starts from what was typed before, and takes another
    page.get_by_text(re.compile("the cheapest by the hour is 2 × H100, \\$0.0400")).wait_for()
