"""The Claims page: counts, corrections, filters, search, one row whole; Decide cites the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.claims import frames
from moe_core.claims.ledger import counts, ledger
from moe_core.runs.findings import findings
from moe_core.settings import Settings
from moe_core.store import ingest
from moe_core.store.db import Store
from tests import synthetic
from tests.claims.found import spec, summary
from tests.pages.conftest import open_page, words

TABS = ("Corrections", "All claims", "One claim")


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No shipped runs: what waits for a run waits, whatever ships."""
    monkeypatch.setattr("moe_core.store.ingest.refresh.__defaults__", (tmp_path / "no-reference",))
    return tmp_path / "no-reference"


def opened(app: AppTest, tab: str = TABS[0], **query: str) -> AppTest:
    app.query_params.update(query)
    app.session_state["ledger"] = tab
    open_page(app, "claims")
    assert not app.exception, app.exception
    return app


def title(app: AppTest) -> str:
    return str(app.title[0].value).replace("\\", "")


def test_it_answers_first(filled: AppTest, reference: Path) -> None:
    opened(filled)
    number = counts(ledger(findings(Path("none"), reference)))
    assert title(filled).startswith(f"Of 165 claims {number['holds']} hold, ")
    assert f"{number['does not hold']} do not; {number['no evidence']} wait for runs" in title(filled)
    assert [one.value for one in filled.metric] == [
        *(str(number[name]) for name in ("holds", "holds under its condition", "does not hold")),
        str(number["no evidence"] + number["undecided"]),
    ]
    (chart,) = filled.get("vega_lite_chart")
    assert len(chart.proto.alt) > 20
    assert not filled.error


def test_the_seventeen_corrections_come_first(filled: AppTest) -> None:
    said = words(opened(filled)).replace("\\", "")
    assert all(f"**{number}. " in said for number in range(1, 18))
    assert "409,663,695,276,000 sets" in said
    assert "red-badge[does not hold] **A41**" in said


def test_filters_and_search_narrow_the_rows_and_stand_in_the_address(filled: AppTest) -> None:
    opened(filled, TABS[1], verdict="does not hold", topic="memory", search="16 bits")
    (table,) = (frame.value for frame in filled.dataframe)
    assert {"B24", "B43", "B44"} <= set(table["id"])
    assert set(table["verdict"]) == {"does not hold"}
    fewer = len(table)
    assert filled.selectbox(key="verdict").value == "does not hold"
    filled.selectbox(key="verdict").set_value("all").run()
    assert len(filled.dataframe[0].value) > fewer
    filled.text_input(key="search").set_value("no such words").run()
    assert not filled.dataframe
    assert "No claim is like that" in words(filled)


def test_an_address_that_asks_for_no_verdict_is_named(filled: AppTest) -> None:
    opened(filled, TABS[1], verdict="perhaps")
    (notice,) = [str(warning.value).replace("\\", "") for warning in filled.sidebar.warning]
    assert notice.startswith("verdict (perhaps): must be one of all, holds, ")
    assert len(filled.dataframe[0].value) == 165


@pytest.mark.parametrize("row", ["A41", "A51", "A38", "B52", "A70"])
def test_one_row_is_told_whole(filled: AppTest, row: str) -> None:
    opened(filled, TABS[2], claim=row)
    said = words(filled).replace("\\", "")
    assert f"**{row}**" in said
    assert not filled.error


def test_every_row_can_be_told(filled: AppTest) -> None:
    opened(filled, TABS[2], claim="A105")
    assert any("python -m moe_core lab run upcycling" in code.value for code in filled.code)
    assert "no run of upcycling has found error.shards" in words(filled).replace("\\", "")


def test_files_hold_the_rows_that_are_shown(filled: AppTest) -> None:
    opened(filled, TABS[1])
    rows = frames.narrowed({"document": "B", "verdict": "does not hold"}, "")
    assert len(frames.csv(rows).decode().splitlines()) == len(rows) + 1
    kept = json.loads(frames.as_json(rows))
    assert [one["id"] for one in kept["claims"]] == [one.claim.id for one in rows]
    assert all(one["evidence"] for one in kept["claims"])


def test_a_run_settles_a_claim_here_and_in_decide(app: AppTest, settings: Settings, reference: Path) -> None:
    opened(app, TABS[2], claim="A94")
    assert "no run of collapse" in words(app)
    app.query_params.update({"argue": "Evidence"})
    open_page(app, "decide")
    before = words(app).replace("\\", "")
    assert "A51 no evidence" in before
    found = {"maxvio_step.none.k1": summary(3.7, 3.2, 4.1)}
    settle(settings, reference, found)
    app.run()
    after = words(app).replace("\\", "")
    assert "A51 holds under its condition" in after
    assert "MaxVio" in after


def settle(settings: Settings, reference: Path, found: dict[str, object]) -> None:
    """A run of the collapse experiment comes into the store that the app has open."""
    from app import data

    path = synthetic.write_bundle(settings.runs_dir, spec("collapse", setting="full"), findings=found)
    store: Store = data.door().store
    ingest.ingest_run(store, path.name)
