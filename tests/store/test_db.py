from __future__ import annotations

import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from moe_core.errors import StoreError
from moe_core.settings import ROOT, Settings
from moe_core.specs import RunSpec
from moe_core.store import db, ingest
from moe_core.store.db import Store

SMALL = RunSpec(batch=8, seq=32, experts=4, top_k=2)

# Append a migration, then change this. Never edit a migration that has been released.
SCHEMA = """
banks: run INTEGER, layer SMALLINT, experts SMALLINT, zero SMALLINT, shared SMALLINT, top_k SMALLINT
counts: run INTEGER, layer SMALLINT, domain VARCHAR, expert SMALLINT, pairs BIGINT, weight DOUBLE?
decisions: run INTEGER, layer SMALLINT, token INTEGER, slot SMALLINT, expert SMALLINT, weight FLOAT?
layers: run INTEGER, subject VARCHAR, series VARCHAR, tokens INTEGER, width INTEGER, hit DOUBLE?,
 repeat INTEGER, seconds DOUBLE
loads: run INTEGER, arm VARCHAR, seed INTEGER, step INTEGER, layer SMALLINT, expert SMALLINT, load BIGINT
memory: run INTEGER, model VARCHAR, component VARCHAR, predicted_bytes BIGINT, measured_bytes BIGINT?
migrations: number INTEGER, name VARCHAR
placements: run INTEGER, layer SMALLINT, physical SMALLINT, logical SMALLINT
probabilities: run INTEGER, layer SMALLINT, domain VARCHAR, expert SMALLINT, probability DOUBLE
quality: run INTEGER, model VARCHAR, top_k SMALLINT, domain VARCHAR, bits_per_byte DOUBLE, bytes BIGINT
requests: run INTEGER, sequence INTEGER, request VARCHAR
review_log: review_id VARCHAR, entry INTEGER, version INTEGER, created TIMESTAMP, who VARCHAR, what VARCHAR,
 why VARCHAR
reviews: review_id VARCHAR, version INTEGER, created TIMESTAMP, author VARCHAR, content JSON
runs: run INTEGER, run_id VARCHAR, question_id VARCHAR, reference VARCHAR?, manifest_sha256 VARCHAR,
 lab VARCHAR, model VARCHAR, experts INTEGER, top_k INTEGER, shared INTEGER, batch INTEGER, seq INTEGER,
 spec JSON, created TIMESTAMP, duration_s DOUBLE, device VARCHAR, device_kind VARCHAR, device_key VARCHAR,
 code_version VARCHAR, stages JSON, provenance JSON, architectures JSON, summary JSON, complete BOOLEAN?,
 kept DOUBLE?, held BOOLEAN?
scenarios: scenario_id VARCHAR, version INTEGER, created TIMESTAMP, author VARCHAR, content JSON
series: run INTEGER, arm VARCHAR, seed INTEGER, metric VARCHAR, axis VARCHAR, x DOUBLE, value DOUBLE
timings: run INTEGER, model VARCHAR, phase VARCHAR, component VARCHAR, repeat INTEGER, seconds DOUBLE
tokens: run INTEGER, token INTEGER, sequence INTEGER, position INTEGER, byte UTINYINT?, domain VARCHAR,
 token_id INTEGER?, generated BOOLEAN?
vocabulary: run INTEGER, token_id INTEGER, text VARCHAR
"""


def test_the_schema_is_pinned(store: Store):
    rows = store.rows(
        "SELECT table_name, string_agg(column_name || ' ' || data_type || "
        "CASE is_nullable WHEN 'YES' THEN '?' ELSE '' END, ', ' ORDER BY ordinal_position) "
        "FROM information_schema.columns WHERE table_schema = 'main' GROUP BY table_name ORDER BY table_name"
    )
    found = "\n".join(f"{table}: {columns}" for table, columns in rows)
    assert found == SCHEMA.strip().replace("\n ", " ")


def test_migrations_are_numbered_without_gaps_and_applied_once(settings: Settings, store: Store):
    applied = store.rows("SELECT number, name FROM migrations ORDER BY number")
    files = sorted(path.stem for path in db.MIGRATIONS.glob("*.sql"))
    assert applied == list(enumerate(files, start=1))
    store.close()
    again = Store.open(settings)
    assert again.rows("SELECT number, name FROM migrations ORDER BY number") == applied
    again.close()


@pytest.mark.parametrize("known", range(1, len(list(db.MIGRATIONS.glob("*.sql")))))
def test_an_older_database_is_brought_up_to_date(
    settings: Settings, bundle_dir: Callable[..., Path], tmp_path: Path, known: int
):
    """Made by a version that had so many migrations."""
    bundle_dir(SMALL)
    for path in sorted(db.MIGRATIONS.glob("*.sql"))[:known]:
        (tmp_path / path.name).write_text(path.read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(db, "MIGRATIONS", tmp_path)
        Store.open(settings).close()
    store = Store.open(settings)
    assert store.notices == ()
    assert len(ingest.refresh(store).added) >= 1
    store.close()


def test_the_file_is_private(settings: Settings, store: Store):
    assert stat.S_IMODE(settings.database.stat().st_mode) == 0o600


# -- locked down -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "ATTACH '/tmp/moe-other.duckdb'",
        "COPY runs TO '/tmp/moe-out.csv'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "RESET lock_configuration",
    ],
)
def test_no_sql_reaches_beyond_the_database(store: Store, sql: str):
    with pytest.raises((StoreError, duckdb.Error)):
        store.rows(sql)


def test_names_of_python_variables_are_not_tables(store: Store):
    secret = __import__("pandas").DataFrame({"x": [1]})
    with pytest.raises(duckdb.CatalogException):
        store.rows("SELECT * FROM secret")
    assert len(secret) == 1


# -- transactions and threads ----------------------------------------------------------------------


def test_a_transaction_that_fails_leaves_nothing(store: Store):
    def fail() -> None:
        with store.transaction() as cursor:
            cursor.execute("INSERT INTO quality VALUES (1, 'moe', 1, 'all', 2.0, 10)")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.rows("SELECT count(*) FROM quality") == [(0,)]
    with store.transaction() as cursor:  # and the store still works
        cursor.execute("INSERT INTO quality VALUES (1, 'moe', 1, 'all', 2.0, 10)")
    assert store.rows("SELECT count(*) FROM quality") == [(1,)]


def test_many_threads_read_and_write(store: Store):
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(10):
                with store.transaction() as cursor:
                    cursor.execute("INSERT INTO quality VALUES ($n, 'moe', 1, 'all', 2.0, 10)", {"n": number})
                store.frame("SELECT count(*) AS n FROM quality WHERE run = $n", n=number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.rows("SELECT count(*) FROM quality") == [(80,)]


# -- trouble ---------------------------------------------------------------------------------------


def test_a_second_process_gets_one_sentence(settings: Settings):
    code = (
        "import sys; from moe_core.settings import Settings; from moe_core.store.db import Store; "
        "store = Store.open(Settings.load()); print('open', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreError) as caught:
            Store.open(settings)
        message = str(caught.value)
        assert message == (
            f"{settings.database} is in use by process {holder.pid}: "
            "stop it, or set MOE_DATA_DIR to another directory"
        )
        holder.stdin.close()
        holder.wait()
    Store.open(settings).close()  # nothing was moved aside, nothing is held any more
    assert list(settings.data_dir.glob("*.unreadable-*")) == []


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10_000])


def scramble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:20_480] = bytes(16_384)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [garbage, truncate, scramble])
def test_a_corrupt_database_is_moved_aside_and_rebuilt(
    settings: Settings, bundle_dir: Callable[..., Path], nothing: Path, damage: Callable[[Path], None]
):
    path = bundle_dir(SMALL)
    store = Store.open(settings)
    ingest.refresh(store, nothing)
    with store.transaction() as cursor:
        cursor.execute("SELECT 1")
    store.rows("CHECKPOINT")
    store.close()
    damage(settings.database)
    store = Store.open(settings)
    (notice,) = store.notices
    (aside,) = settings.data_dir.glob("*.unreadable-*")
    assert aside.name in notice
    assert "rebuilt from the runs" in notice
    assert ingest.refresh(store, nothing).added == (path.name,)
    store.close()


def test_a_database_of_a_newer_version_is_moved_aside(settings: Settings):
    store = Store.open(settings)
    with store.transaction() as cursor:
        cursor.execute("INSERT INTO migrations VALUES (999, '0999_future')")
    store.close()
    store = Store.open(settings)
    assert len(store.notices) == 1
    store.close()


def test_damage_found_while_reading_says_what_to_do(store: Store, monkeypatch: pytest.MonkeyPatch):
    class Broken:
        def cursor(self) -> None:
            raise duckdb.IOException("Corrupt database file: checksum\nmore")

    monkeypatch.setattr(store, "_connection", Broken())
    with pytest.raises(StoreError, match=r"Corrupt .*: run `python -m moe_core ingest --rebuild`"):
        store.rows("SELECT 1")
    monkeypatch.undo()


def test_a_full_disk_is_a_sentence_and_the_run_is_not_lost(settings: Settings):
    code = (
        "import resource; from moe_core.settings import Settings; from moe_core.store.db import Store\n"
        "from moe_core.store import ingest; from tests import synthetic; from pathlib import Path\n"
        "settings = Settings.load()\n"
        "synthetic.write_bundle(settings.runs_dir, synthetic.RunSpec(batch=32, top_k=8))\n"
        "store = Store.open(settings)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "print(ingest.refresh(store, Path('/nowhere')).problems)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "the disk is full: " in done.stdout, done.stderr
    store = Store.open(settings)
    assert store.notices == ()
    assert len(ingest.refresh(store, Path("/nowhere")).added) == 1
    store.close()


@pytest.mark.parametrize("limit", [0, 4096, 10_000])
@pytest.mark.parametrize("before", [None, b"", b"not a database" * 1000])
def test_a_full_disk_at_the_start_is_a_sentence_and_no_damage(
    settings: Settings, limit: int, before: bytes | None
):
    """The first start, the second after it, and one that finds a file which it must make again."""
    if before is not None:
        settings.database.write_bytes(before)
    code = (
        "import resource; from moe_core.settings import Settings; from moe_core.store.db import Store\n"
        "from moe_core.errors import StoreError\n"
        "settings = Settings.load()\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "for _ in range(2):\n"
        "    try: Store.open(settings)\n"
        "    except StoreError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2
    assert all(re.search("cannot be (opened|made again): .*File too large", line) for line in said)
    store = Store.open(settings)
    assert store.notices == ()
    store.close()


def test_its_state_changes_with_every_write_and_with_nothing_else(store: Store) -> None:
    before = store.state
    store.rows("SELECT 1")
    assert store.state == before
    with store.transaction() as cursor:
        cursor.execute("SELECT 1")
    after = store.state
    assert after != before
    with pytest.raises(ZeroDivisionError), store.transaction():
        raise ZeroDivisionError
    assert store.state == after  # nothing was written
