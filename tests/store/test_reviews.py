"""Reviews and scenarios in the store: versions, the log, the copy beside it; and no text that gets out."""

from __future__ import annotations

import json
import os
import stat
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples

from moe_core.cli import history
from moe_core.errors import ConfigError, StoreError
from moe_core.review import MOST, Case, Decision, Review
from moe_core.settings import Settings
from moe_core.store import copies, ingest, reviews, scenarios, shelf
from moe_core.store.db import Store
from tests.report.examples import ATTACKS, anything

ADA = Decision(who="Ada", what="Take the mixture", why="It fits")


def case(name: str = "A", note: str = "") -> Case:
    return Case.parse({"name": name, "parameters": {"batch": "8"}, "resolved": {"label": name}, "note": note})


def review(**values: object) -> Review:
    return Review.parse({"title": "Chat", "question": "Which?", "scenarios": (case(),), **values})


def test_every_save_is_a_version_and_old_ones_stay(store: Store) -> None:
    identity = reviews.create(store, review(), "Ada")
    assert reviews.save(store, identity, review(notes="second"), "Bob", base=1) == 2
    newest, oldest = reviews.read(store, identity), reviews.read(store, identity, 1)
    assert (newest.version, newest.author, newest.review.notes) == (2, "Bob", "second")
    assert (oldest.version, oldest.latest, oldest.author, oldest.review.notes) == (1, 2, "Ada", "")
    with pytest.raises(ConfigError, match="has 2 versions"):
        reviews.read(store, identity, 3)


def test_two_people_cannot_overwrite_each_other(store: Store) -> None:
    identity = reviews.create(store, review())
    reviews.save(store, identity, review(notes="mine"), base=1)
    with pytest.raises(ConfigError, match="version 2 was saved meanwhile"):
        reviews.save(store, identity, review(notes="yours"), base=1)
    assert reviews.read(store, identity).review.notes == "mine"


def test_the_log_only_grows(store: Store) -> None:
    identity = reviews.create(store, review())
    reviews.log(store, identity, ADA)
    reviews.save(store, identity, review(notes="x"), base=1)
    reviews.log(store, identity, Decision(who="Bob", what="Wait"))
    found = reviews.read(store, identity).log
    assert [(one.number, one.version, one.decision.who) for one in found] == [(1, 1, "Ada"), (2, 2, "Bob")]
    assert found[0].when <= found[1].when
    assert reviews.read(store, identity, 1).log == found


def test_the_listing_has_the_newest_of_each(store: Store) -> None:
    first = reviews.create(store, review(title="First"))
    second = reviews.create(store, review(title="Second", scenarios=(case("A"), case("B"))))
    reviews.log(store, second, ADA)
    reviews.save(store, first, review(title="First again"), base=1)
    table = reviews.listing(store)
    assert table["title"].tolist() == ["First again", "Second"]
    assert table["version"].tolist() == [2, 1]
    assert table["scenarios"].tolist() == [1, 2]
    assert table["decisions"].tolist() == [0, 1]


def test_deleting_takes_everything(store: Store) -> None:
    identity, other = reviews.create(store, review()), reviews.create(store, review(title="Other"))
    reviews.log(store, identity, ADA)
    reviews.delete(store, identity)
    assert reviews.listing(store)["review_id"].tolist() == [other]
    assert store.rows("SELECT count(*) FROM review_log") == [(0,)]
    assert [path.name for path in store.settings.reviews_dir.iterdir()] == [f"{other}.json"]
    with pytest.raises(ConfigError, match="must be a review"):
        reviews.read(store, identity)


def test_a_lost_database_gets_its_reviews_back(settings: Settings, nothing: Path) -> None:
    store = Store.open(settings)
    identity = reviews.create(store, review(notes="kept"), "Ada")
    reviews.log(store, identity, ADA)
    before = reviews.read(store, identity)
    store.close()
    settings.database.write_bytes(b"not a database" * 1000)
    again = Store.open(settings)
    assert reviews.listing(again).empty
    assert copies.refill(again) == (identity,)
    assert copies.refill(again) == ()
    assert reviews.read(again, identity) == before
    ingest.rebuild(again, nothing)
    assert reviews.read(again, identity) == before
    again.close()


def flipped(path: Path, at: float) -> None:
    """One bit of one byte."""
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", [0.0, 0.03, 0.06, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", ["moe.duckdb", "moe.duckdb.wal"])
def test_one_flipped_byte_costs_nothing_that_people_keep(
    settings: Settings, nothing: Path, tmp_path: Path, name: str, at: float
) -> None:
    """In the file, or in what was written to it last: reviews with their log and scenarios are all back."""
    store = Store.open(settings)
    if name == "moe.duckdb":
        store.rows("CHECKPOINT")
    identity = reviews.create(store, review(notes="kept"), "Ada")
    reviews.log(store, identity, ADA)
    reviews.save(store, identity, review(notes="second"), "Bob", base=1)
    scenario = scenarios.save(store, case("Now", "as it is"), "Ada")
    scenarios.save(store, case("Next"), "Ada", scenario.scenario_id, base=1)
    before = reviews.copy(store, identity), scenarios.copy(store, scenario.scenario_id)
    wal = settings.database.with_name("moe.duckdb.wal")
    if name == "moe.duckdb":
        store.rows("CHECKPOINT")
        store.close()
    else:  # as a killed process leaves it
        kept = {path: path.read_bytes() for path in (settings.database, wal)}
        store.close()
        for path, data in kept.items():
            path.write_bytes(data)
    flipped(settings.data_dir / name, at)
    again = Store.open(settings)
    ingest.refresh(again, nothing)
    copies.refill(again)
    assert (reviews.copy(again, identity), scenarios.copy(again, scenario.scenario_id)) == before
    assert scenarios.listing(again)["name"].tolist() == ["Next"]
    for notice in again.notices:
        assert "rebuilt from the runs and from the copies of reviews and scenarios" in notice
    again.close()


def test_rows_and_copies_make_each_other_whole(store: Store) -> None:
    """A version or a line that one of them lacks comes from the other; a damaged copy is written again."""
    identity = reviews.create(store, review(), "Ada")
    reviews.save(store, identity, review(notes="second"), base=1)
    reviews.log(store, identity, ADA)
    old = scenarios.save(store, case("Now"), "Ada").scenario_id
    before = reviews.copy(store, identity), scenarios.copy(store, old)
    assert copies.refill(store) == ()
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM reviews WHERE version = 2")
        cursor.execute("DELETE FROM review_log")
    (store.settings.scenarios_dir / f"{old}.json").write_text("{")
    assert copies.refill(store) == (identity,)
    assert (reviews.copy(store, identity), scenarios.copy(store, old)) == before
    assert shelf.of_scenarios(store.settings).get(old) == before[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [("versions", []), ("created", "yesterday"), ("created", "2026-01-01T00:00:00+02:00"), ("version", 2**40),
     ("version", 0), ("identity", "f" * 16), ("author", None)],
)  # fmt: skip
def test_a_copy_that_makes_no_sense_is_left_out(store: Store, field: str, value: object) -> None:
    first = scenarios.save(store, case("Now")).scenario_id
    path = store.settings.scenarios_dir / f"{first}.json"
    values = json.loads(path.read_text())
    if field in ("versions", "identity"):
        values["scenario_id" if field == "identity" else field] = value
    else:
        values["versions"][0][field] = value
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM scenarios")
    path.write_text(json.dumps(values))
    assert copies.refill(store) == ()
    assert scenarios.listing(store).empty


def test_a_deleted_scenario_stays_deleted(store: Store) -> None:
    first = scenarios.save(store, case("Now")).scenario_id
    copy = store.settings.scenarios_dir / f"{first}.json"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    scenarios.delete(store, first)
    assert not copy.exists()
    assert copies.refill(store) == ()
    assert scenarios.listing(store).empty


def test_rebuilding_from_the_command_line_keeps_what_people_keep(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a sound database, from none, and from one that cannot even be emptied."""

    def refuse(_store: Store) -> ingest.Report:
        raise StoreError("a block is damaged")

    store = Store.open(settings)
    identity = reviews.create(store, review(), "Ada")
    scenario = scenarios.save(store, case("Now"), "Ada").scenario_id
    before = reviews.copy(store, identity), scenarios.copy(store, scenario)
    store.close()
    broken = partial(monkeypatch.setattr, ingest, "rebuild", refuse)
    for damage in (lambda: None, settings.database.unlink, broken):
        damage()
        history.ingest(rebuild=True, as_json=True)
        again = Store.open(settings)
        assert (reviews.copy(again, identity), scenarios.copy(again, scenario)) == before
        again.close()
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(report["problems"]) for report in reports] == [0, 0, 1]
    assert "copies of reviews and scenarios" in reports[2]["problems"][0]


def test_the_copy_is_private_and_read_without_the_database(store: Store) -> None:
    identity = reviews.create(store, review())
    path = store.settings.reviews_dir / f"{identity}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert shelf.of_reviews(store.settings).get(identity).saved() == reviews.read(store, identity)


@pytest.mark.parametrize(
    "bad", ["", "../../etc/passwd", "0123456789ABCDEF", "0" * 17, "0' OR '1'='1", "\ud800"]
)
def test_an_identity_is_sixteen_digits_or_refused(store: Store, bad: str) -> None:
    for action in (
        lambda: reviews.read(store, bad),
        lambda: reviews.delete(store, bad),
        lambda: scenarios.read(store, bad),
        lambda: shelf.of_reviews(store.settings).get(bad),
    ):
        with pytest.raises(ConfigError, match="16 hexadecimal"):
            action()


def test_a_damaged_copy_is_one_sentence_and_blocks_no_other(store: Store) -> None:
    directory = store.settings.reviews_dir
    identity = reviews.create(store, review())
    (directory / f"{'0' * 16}.json").write_text("{")
    with pytest.raises(ConfigError):
        shelf.of_reviews(store.settings).get("0" * 16)
    assert [copy.identity for copy in shelf.of_reviews(store.settings).every()] == [identity]


def test_scenarios_are_named_versioned_and_deleted(store: Store) -> None:
    first = scenarios.save(store, case("Now", "as it is"), "Ada")
    second = scenarios.save(store, case("Next"), "Ada", first.scenario_id, base=1)
    assert (second.version, scenarios.read(store, first.scenario_id).case.name) == (2, "Next")
    assert scenarios.read(store, first.scenario_id, 1).case.note == "as it is"
    with pytest.raises(ConfigError, match="saved meanwhile"):
        scenarios.save(store, case("Other"), "Bob", first.scenario_id, base=1)
    assert scenarios.listing(store)["name"].tolist() == ["Next"]
    scenarios.delete(store, first.scenario_id)
    assert scenarios.listing(store).empty


def test_a_review_holds_at_most_four_scenarios_with_names_of_their_own() -> None:
    full = review(scenarios=tuple(case(str(at)) for at in range(MOST)))
    with pytest.raises(ConfigError, match="scenarios"):
        full.with_case(case("one more"))
    twice = review().with_case(case("A"))
    assert [one.name for one in twice.scenarios] == ["A", "A (2)"]
    with pytest.raises(ConfigError, match="a name of its own"):
        review(scenarios=(case("A"), case("A")))


@given(anything, anything, anything)
@examples(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_text_reaches_sql_paths_or_breaks_the_store(
    fuzzed: Store, title: str, notes: str, why: str
) -> None:
    """What is saved comes back; tables, other reviews and files outside are as before."""
    directory = fuzzed.settings.data_dir
    outside = sorted(os.listdir(directory.parent))
    try:
        found = review(title=title, notes=notes)
        decision = Decision.parse({"who": "Ada", "what": title, "why": why})
    except ConfigError:
        return
    identity = reviews.create(fuzzed, found)
    reviews.log(fuzzed, identity, decision)
    back = reviews.read(fuzzed, identity)
    assert back.review == found
    assert back.log[0].decision == decision
    assert shelf.of_reviews(fuzzed.settings).get(identity).saved() == back
    assert fuzzed.rows("SELECT count(*) FROM reviews WHERE review_id = 'keep'") == [(0,)]
    reviews.delete(fuzzed, identity)
    assert reviews.listing(fuzzed)["title"].tolist() == ["Stays"]
    assert sorted(os.listdir(directory.parent)) == outside
    assert sorted(os.listdir(directory)) == ["moe.duckdb", "moe.duckdb.wal", "reviews", "runs"]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    opened = Store.open(Settings(data_dir=tmp_path_factory.mktemp("fuzz") / "state").prepare())
    reviews.create(opened, review(title="Stays"))
    yield opened
    opened.close()


@pytest.mark.parametrize("text", ATTACKS)
def test_text_that_is_kept_can_be_written_anywhere(text: str) -> None:
    kept = case("A", text).note
    kept.encode("utf-8")
    assert not set(kept) & {"\x00", "\x1b", "\x7f", "\u202e", "\ufffe"}
