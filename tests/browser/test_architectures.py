"""Architectures in a browser: import a configuration, edit its number of experts, see both on the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Page, TimeoutError, expect

from tests.browser.conftest import Server, settle
from tests.scenario.test_subjects import CONFIG

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Visit = Callable[..., Page]


def test_a_config_is_imported_and_its_experts_edited(server: Server, visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "my-mixture.json"
    file.write_text(json.dumps(CONFIG), encoding="utf-8")
    page = visit(server, "architectures?look=Import")
    page.locator("input[type=file]").last.set_input_files(str(file))
    page.get_by_role("heading", name="my-mixture keeps 46.7 B parameters").wait_for()
    page.get_by_text("Looking at my-mixture").wait_for()

    page.get_by_role("tab", name="Edit").click()
    experts = page.get_by_role("spinbutton", name="Experts", exact=True)
    expect(experts).to_have_value("8")
    experts.fill("16")
    experts.press("Enter")
    page.wait_for_url("**changes=experts*")
    page.get_by_text("my-mixture, edited is 1.97× the size of my-mixture").wait_for()

    page.get_by_role("button", name="Look at the edited model").click()
    page.get_by_role("heading", name="my-mixture, edited keeps 91.8 B parameters").wait_for()
    page.get_by_role("button", name="Use in the scenario").click()
    page.wait_for_url("**architecture=my-mixture**")
    page.get_by_role("link", name="Memory").click()
    page.get_by_role("heading", level=1, name="my-mixture, edited as given").wait_for()


def test_a_click_on_a_point_looks_at_that_model(server: Server, visit: Visit) -> None:
    """Once, and again after another model was chosen from the list."""
    page = visit(server, "architectures")
    dbrx = page.locator("[role=graphics-symbol][aria-label^='DBRX: 132 B in all, 36.5 B active']")
    for _ in range(2):
        looked_at = page.get_by_role("heading", name="DBRX keeps 132 B parameters")
        for _ in range(100):  # a click on a chart that does not listen yet goes nowhere
            dbrx.click()
            with suppress(TimeoutError):
                looked_at.wait_for(timeout=5_000)
                break
        looked_at.wait_for()
        page.wait_for_url("**subject=DBRX*")
        settle(page)
        models = page.get_by_role("combobox", name="Model looked at")
        models.click()
        models.fill("Mixtral-8x22B")
        models.press("Enter")
        page.get_by_role("heading", name="Mixtral-8x22B keeps 141 B parameters").wait_for()
        settle(page)
