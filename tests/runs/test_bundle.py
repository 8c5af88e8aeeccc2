from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moe_core.errors import ConfigError, StoreError
from moe_core.runs import bundle
from moe_core.runs.layout import TABLES, FileEntry
from moe_core.settings import ROOT, Settings
from moe_core.specs import RunSpec
from tests import synthetic
from tests.synthetic import BENCH_TABLES

SMALL = RunSpec(batch=8, seq=32, experts=4, top_k=2)
Write = Callable[..., Path]


def listing(path: Path) -> list[str]:
    return sorted(item.name for item in path.iterdir())


def test_what_is_written_is_read_back(bundle_dir: Write):
    path = bundle_dir(SMALL, layers=3)
    found = bundle.verify(path)
    assert found.manifest.run_id == path.name
    assert RunSpec.parse(found.manifest.spec) == SMALL
    assert found.tables == BENCH_TABLES
    decisions = found.table("decisions")
    assert decisions.schema.equals(TABLES["decisions"])
    assert decisions.num_rows == found.manifest.summary["decisions"] == 8 * 32 * 3 * 2
    assert listing(path) == sorted(["manifest.json", *(f"{name}.parquet" for name in BENCH_TABLES)])


def test_a_run_from_before_a_column_has_no_values_in_it(
    bundle_dir: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = bundle.verify(bundle_dir(SMALL))
    before, younger = found.table("timings"), pa.field("younger", pa.int32())
    monkeypatch.setitem(TABLES, "timings", TABLES["timings"].insert(0, younger))
    after = found.table("timings")
    assert after.column_names == ["younger", *before.column_names]
    assert after["younger"].null_count == after.num_rows
    assert after.drop_columns(["younger"]).equals(before)
    monkeypatch.setitem(TABLES, "timings", before.schema.append(younger.with_nullable(False)))
    with pytest.raises(StoreError, match="is not the table this version reads"):
        found.table("timings")


def test_a_sweep_is_a_manifest_and_its_quality(bundle_dir: Write):
    path = bundle_dir(RunSpec(lab="topk_sweep"))
    assert listing(path) == ["manifest.json", "quality.parquet"]
    assert bundle.verify(path).tables == ("quality",)


def test_nothing_but_the_run_is_left(bundle_dir: Write, settings: Settings):
    path = bundle_dir(SMALL)
    assert listing(settings.runs_dir) == [path.name]
    assert path.stat().st_mode & 0o077 == 0


def test_the_same_run_again_replaces_it(bundle_dir: Write, settings: Settings):
    first = bundle.read(bundle_dir(SMALL, seed=0))
    second = bundle.verify(bundle_dir(SMALL, seed=1))
    assert (first.path, first.manifest.run_id) == (second.path, second.manifest.run_id)
    assert first.sha256 != second.sha256
    assert listing(settings.runs_dir) == [first.path.name]


@pytest.mark.parametrize(
    "run_id",
    ["../../etc", "", "ABCDEF0123456789", "0123456789abcdef/", "0123456789abcde", "x" * 16, "a\n" * 8],
)
def test_a_run_id_cannot_leave_the_directory(run_id: str, settings: Settings):
    with pytest.raises(ConfigError, match="16 hexadecimal digits"):
        bundle.remove(settings.runs_dir, run_id)


def test_rows_out_of_order_are_a_bug():
    table = {"layer": [0, 0], "token": [1, 0], "slot": [0, 0], "expert": [0, 0], "weight": [1.0, 1.0]}
    with pytest.raises(AssertionError, match="sorted"):
        bundle._to_table("decisions", table)


def test_a_value_that_does_not_fit_its_column_is_refused():
    table = {"layer": [0], "token": [0], "slot": [0], "expert": [40_000], "weight": [1.0]}
    with pytest.raises((ValueError, OverflowError)):
        bundle._to_table("decisions", table)


def test_a_manifest_with_a_nan_is_refused(bundle_dir: Write):
    manifest = bundle.read(bundle_dir(SMALL)).manifest
    with pytest.raises(ValueError, match="JSON compliant"):
        manifest.model_copy(update={"summary": {"x": float("nan")}}).to_json()


# -- damage ----------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, halve, empty, Path.unlink])
@pytest.mark.parametrize("name", ["decisions.parquet", "quality.parquet"])
def test_a_damaged_table_is_named(bundle_dir: Write, damage: Callable[[Path], None], name: str):
    path = bundle_dir(SMALL)
    damage(path / name)
    with pytest.raises(bundle.CorruptError, match=rf"{path / name} is .*run it again"):
        bundle.verify(path)


@pytest.mark.parametrize("damage", [halve, empty, Path.unlink])
def test_a_damaged_manifest_is_named(bundle_dir: Write, damage: Callable[[Path], None]):
    path = bundle_dir(SMALL)
    damage(path / "manifest.json")
    with pytest.raises(bundle.CorruptError, match=r"manifest\.json is .*run it again"):
        bundle.read(path)


def edit(path: Path, **values: object) -> None:
    synthetic.alter(path, lambda manifest: manifest.update(values))


@pytest.mark.parametrize("schema", [0, 3, None, "1", True, 1.0, [1]])
def test_a_foreign_schema_is_not_called_corrupt(bundle_dir: Write, schema: object):
    path = bundle_dir(SMALL)
    edit(path, schema=schema)
    with pytest.raises(StoreError, match="this version reads schema 1 to 2: update MoEScope") as caught:
        bundle.read(path)
    assert not isinstance(caught.value, bundle.CorruptError)


def test_one_digit_changed_is_caught(bundle_dir: Write):
    """Every value stands for itself and for the checksum."""
    path = bundle_dir(SMALL)
    file = path / "manifest.json"
    sound = file.read_text()
    file.write_text(sound.replace('"batch": 8', '"batch": 9'))
    with pytest.raises(bundle.CorruptError, match="its checksum differs"):
        bundle.read(path)
    file.write_text(json.dumps(json.loads(sound), sort_keys=True))  # the same, laid out otherwise
    assert bundle.read(path).manifest.spec["batch"] == 8


def test_a_bundle_of_before_checksums_opens(bundle_dir: Write):
    path = bundle_dir(SMALL)
    values = json.loads((path / "manifest.json").read_text())
    del values["checksum"]
    (path / "manifest.json").write_text(json.dumps(values))
    assert bundle.verify(path).manifest.checksum is None


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"schema": 1, "summary": ' + '{"a":' * 990 + "1" + "}" * 991,
        '{"schema": 1, "schema": 1}',
        '{"schema": 1, "duration_s": NaN}',
        '{"schema": 1, "duration_s": 1e999}',
        '{"schema": 1, "duration_s": ' + "9" * 5_000 + "}",
        "[]",
        "null",
        "1",
        "\ufeff{}",
    ],
)
def test_what_is_no_manifest_is_named(bundle_dir: Write, text: str):
    path = bundle_dir(SMALL)
    (path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=r"manifest\.json (is corrupt|has schema)"):
        bundle.read(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path.name)])
def test_a_manifest_that_is_no_file_is_named(bundle_dir: Write, make: Callable[[Path], None]):
    path = bundle_dir(SMALL)
    (path / "manifest.json").unlink()
    make(path / "manifest.json")
    with pytest.raises(bundle.CorruptError, match=r"manifest\.json is not a file"):
        bundle.read(path)


def test_a_manifest_cannot_name_files_elsewhere(bundle_dir: Write):
    path = bundle_dir(SMALL)
    edit(path, files={"../../passwd.parquet": {"rows": 1, "sha256": "0" * 64}})
    with pytest.raises(StoreError, match="unknown files"):
        bundle.read(path)


@pytest.mark.parametrize("values", [{"run_id": "../x"}, {"created": "yesterday"}, {"surprise": 1}])
def test_a_manifest_with_bad_values_is_corrupt(bundle_dir: Write, values: dict[str, object]):
    path = bundle_dir(SMALL)
    edit(path, **values)
    with pytest.raises(bundle.CorruptError, match="is corrupt"):
        bundle.read(path)


def test_a_manifest_that_promises_other_rows_is_caught(bundle_dir: Write):
    path = bundle_dir(SMALL)
    files = json.loads((path / "manifest.json").read_text())["files"]
    files["quality.parquet"]["rows"] += 1
    edit(path, files=files)
    with pytest.raises(bundle.CorruptError, match="rows"):
        bundle.verify(path)


def test_a_table_with_other_columns_is_caught(bundle_dir: Write):
    path = bundle_dir(SMALL)
    table = pq.read_table(path / "quality.parquet").drop(["bytes"])
    pq.write_table(table, path / "quality.parquet")
    digest = hashlib.sha256((path / "quality.parquet").read_bytes()).hexdigest()
    entry = FileEntry(rows=table.num_rows, sha256=digest)
    files = json.loads((path / "manifest.json").read_text())["files"]
    edit(path, files=files | {"quality.parquet": entry.model_dump()})
    with pytest.raises(bundle.CorruptError, match="not the table this version reads"):
        bundle.verify(path)


# -- a full disk, a killed process -----------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_so_and_leaves_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int
):
    calls = []

    def fail(directory: Path, name: str, groups: object) -> FileEntry:
        calls.append(name)
        (directory / f"{name}.parquet").write_bytes(b"half")
        if len(calls) == 3:
            raise OSError(number, os.strerror(number))
        return FileEntry(rows=0, sha256="0" * 64)

    monkeypatch.setattr(bundle, "_write_table", fail)
    with pytest.raises(StoreError, match=r"the disk is full: .* needs up to [\d.]+ kB and [\d.]+ .B is free"):
        synthetic.write_bundle(settings.runs_dir, SMALL)
    assert listing(settings.runs_dir) == []


def test_a_full_disk_keeps_the_run_that_was_there(bundle_dir: Write, monkeypatch: pytest.MonkeyPatch):
    path = bundle_dir(SMALL)
    before = bundle.read(path).sha256
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "_sync_directory", _raise_full)
        with pytest.raises(StoreError, match="disk is full"):
            bundle_dir(SMALL, seed=5)
    assert bundle.verify(path).sha256 == before


def _raise_full(path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_real_limit_on_file_size_counts_as_full(settings: Settings):
    code = (
        "import resource, sys; from pathlib import Path; from tests import synthetic; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
        "synthetic.write_bundle(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-B", "-c", code, str(settings.runs_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "moe_core.errors.StoreError: the disk is full" in done.stderr
    assert listing(settings.runs_dir) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_another_failure_to_write_is_a_sentence_too(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    def fail(path: Path, data: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(bundle, "_write", fail)
    with pytest.raises(StoreError, match="could not be written"):
        synthetic.write_bundle(settings.runs_dir, SMALL)
    assert listing(settings.runs_dir) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from moe_core.runs import bundle
from tests import synthetic
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
{patch}
synthetic.write_bundle(Path(sys.argv[1]), synthetic.RunSpec(batch=8, seq=32, experts=4, top_k=2), seed=7)
"""


def killed_while(patch: str, settings: Settings) -> None:
    command = [sys.executable, "-c", KILLED.format(patch=patch), str(settings.runs_dir)]
    assert subprocess.run(command, cwd=ROOT).returncode == -9


def test_a_writer_killed_half_way_is_invisible_and_swept(settings: Settings):
    killed_while("bundle._sync_directory = die", settings)
    assert bundle.published(settings.runs_dir) == []
    (left,) = listing(settings.runs_dir)
    assert left.startswith(".tmp-")
    assert bundle.clean(settings.runs_dir) == [left]
    assert listing(settings.runs_dir) == []


def test_a_writer_killed_while_replacing_loses_nothing(bundle_dir: Write, settings: Settings):
    path = bundle_dir(SMALL)
    before = bundle.read(path).sha256
    patch = (
        "rename = Path.rename\n"
        "def swap(self, target):\n"
        "    rename(self, target)\n"
        "    if str(target).endswith('-old'): die()\n"
        "Path.rename = swap"
    )
    killed_while(patch, settings)
    assert bundle.published(settings.runs_dir) == []
    bundle.clean(settings.runs_dir)
    assert listing(settings.runs_dir) == [path.name]
    assert bundle.verify(path).sha256 == before


def test_a_draft_in_work_is_not_swept(settings: Settings):
    with bundle._draft(settings.runs_dir, "0" * 16, 0) as draft:
        other = draft.rename(draft.with_name(f".tmp-{'0' * 16}-999999999"))  # its process looks dead
        assert bundle.clean(settings.runs_dir) == []  # but its lock is held
        assert other.exists()
    assert bundle.clean(settings.runs_dir) == [other.name]


def test_remove(bundle_dir: Write, settings: Settings):
    path = bundle_dir(SMALL)
    assert bundle.remove(settings.runs_dir, path.name)
    assert not bundle.remove(settings.runs_dir, path.name)
    assert listing(settings.runs_dir) == []
