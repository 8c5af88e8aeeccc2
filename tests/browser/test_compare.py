"""Compare in a browser: a scenario added stands in the address, and the address opens the same elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server, settle

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_address_is_the_comparison(server: Server, visit: Callable[..., Page]) -> None:
    page = visit(server, "compare?a=architecture%3DMixtral-8x7B%26batch%3D1")
    page.get_by_role("heading", name="Scenario A writes a token in").wait_for()
    page.get_by_role("button", name="Add a scenario").click()
    page.get_by_role("button", name="Add the sidebar's scenario").click()
    answer = page.get_by_role("heading", name="faster than", level=1)
    answer.wait_for()
    page.wait_for_url("**b=architecture%3DQwen3-30B-A3B**")
    settle(page)
    there = visit(server, page.url.removeprefix(f"{server.address}/"), theme="dark", width=900)
    heading = there.get_by_role("heading", name="faster than", level=1)
    expect(heading).to_have_text(answer.inner_text())
    expect(there.get_by_role("table")).to_have_count(1)
