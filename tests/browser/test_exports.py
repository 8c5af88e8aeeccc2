"""Exports in a real browser with the network off: the files draw, ask for nothing, and run nobody's text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from moe_core.report import archive, embed, formats, html, story
from moe_core.settings import Settings
from moe_core.store import reviews
from moe_core.store.db import Store
from tests.browser.conftest import serve
from tests.report.examples import ATTACKS, figure, manifest
from tests.report.reviewed import kept, review, saved

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
]
DIALOGS = "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>"


class Opened:
    """A file in a browser that cannot reach anything, and what it tried."""

    def __init__(self, browser: Browser, path: Path) -> None:
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page = browser.new_context(offline=True).new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("console", lambda line: self.said.append(line.text))
        self.page.goto(path.as_uri())
        self.page.wait_for_load_state("load")

    @property
    def requests(self) -> list[str]:
        """What it asked for beside itself; data addresses are inside the file."""
        return [url for url in self.asked if not url.startswith("data:")][1:]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Callable[[bytes], Opened]:
    def show(data: bytes) -> Opened:
        path = tmp_path / "export.html"
        path.write_bytes(data)
        return Opened(browser, path)

    return show


def test_a_living_chart_draws_offline(opened: Callable[[bytes], Opened]) -> None:
    found = opened(formats.html(figure(DIALOGS, DIALOGS), manifest(DIALOGS, DIALOGS)))
    found.page.wait_for_selector("#chart svg")
    assert found.page.locator("#chart svg .mark-rect path").count() >= 2
    assert "<script>alert(1)</script>" in found.page.locator("#chart svg").text_content()  # type: ignore[operator]
    assert found.requests == []
    assert found.said == []


def test_a_report_of_hostile_text_only_shows_it(opened: Callable[[bytes], Opened]) -> None:
    cases = tuple(kept(f"{at} {DIALOGS}") for at in range(2))
    notes = "\n".join(text for text in ATTACKS if "\ud800" not in text)
    hostile = review(title=DIALOGS, scenarios=cases, notes=notes + DIALOGS, verdict={"sentence": DIALOGS})
    found = opened(html.html(story.tell(saved(hostile))))
    images = found.page.locator("figure img")
    assert images.count() >= 4
    assert images.evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 300)")
    assert found.page.locator("h1").text_content() == DIALOGS
    assert found.page.evaluate("document.querySelectorAll('script').length") == 1
    assert found.requests == []
    assert found.said == []


def test_a_page_draws_offline(opened: Callable[[bytes], Opened]) -> None:
    page = archive.Page(
        "The answer", (("Time", "2 s", "note", "modelled"),), {"a": figure(), "b": figure("x")}
    )
    found = opened(archive.html(page, manifest(), "dark"))
    assert found.page.locator("figure img").count() == 2
    assert found.page.locator("figure img").evaluate_all("all => all.every(one => one.naturalWidth > 300)")
    assert found.requests == []
    assert found.said == []


def test_a_review_opens_by_its_link_and_leaves_as_a_deck(tmp_path: Path, visit: Callable[..., Page]) -> None:
    settings = Settings(data_dir=tmp_path / "state").prepare()
    store = Store.open(settings)
    first = reviews.create(store, review(title="First", verdict=None), "Ada")
    reviews.save(store, first, review(title="First, later", verdict=None), base=1)
    reviews.create(store, review(title="Second"), "Bob")
    store.close()
    with serve(settings.data_dir, "external") as server:
        page = visit(server, f"reviews?review={first}&review_version=1")
        page.get_by_role("heading", name="Not decided yet").first.wait_for()
        page.get_by_text("First", exact=True).first.wait_for()
        page.get_by_role("tab", name="Export").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="PowerPoint").click()
        target = tmp_path / "deck.pptx"
        download.value.save_as(target)
        made = embed.read(target)
        assert made.review is not None
        assert (made.review["id"], made.review["version"]) == (first, 1)
        page.get_by_role("button", name="Data").first.click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Parquet").first.click()
        download.value.save_as(tmp_path / "rows.parquet")
        assert set(embed.read(tmp_path / "rows.parquet").scenarios) == set(made.scenarios)
