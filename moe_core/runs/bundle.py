"""Bundle: what a run leaves behind. A directory of Parquet files and a manifest that vouches for them.

Written aside, synced, then published by one rename, so that a reader sees all of a run or none.
Bundles are the truth; the database is a copy. No torch here: the web process reads bundles too.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_core import inputs
from moe_core.errors import ConfigError, StoreError
from moe_core.runs.layout import MANIFEST, READABLE, RUN_ID, TABLES, BundleManifest, FileEntry, checksum
from moe_core.units import quantity

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_AGAIN = "delete the run and run it again"
_MANIFEST_BYTES, _TABLE_BYTES = 64_000_000, 2**32


class CorruptError(StoreError):
    """A bundle that will never be readable: what to do is to run it again."""


class Bundle(NamedTuple):
    """A published run: where it lies, its manifest, and the manifest's own SHA-256."""

    path: Path
    manifest: BundleManifest
    sha256: str

    def table(self, name: str) -> pa.Table:
        """One table, checked against the manifest. Raises StoreError naming the file."""
        path = self.path / f"{name}.parquet"
        return _read_table(path, name, self.manifest.files[path.name])

    def groups(self, name: str) -> Iterator[pa.Table]:
        """One table, a row group at a time, checked against the manifest first: for what is too long to hold.

        Raises StoreError naming the file.
        """
        path = self.path / f"{name}.parquet"
        return _read_groups(path, name, self.manifest.files[path.name])

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables this bundle has, in the order of `TABLES`."""
        return tuple(name for name in TABLES if f"{name}.parquet" in self.manifest.files)


def check_run_id(run_id: str) -> str:
    """`run_id`, if it is 16 hex digits and so cannot leave the runs directory. Raises ConfigError."""
    if not RUN_ID.fullmatch(run_id):
        raise ConfigError(f"run_id ({run_id[:40]}): must be 16 hexadecimal digits")
    return run_id


# -- writing ---------------------------------------------------------------------------------------


def publish(
    runs_dir: Path,
    manifest: BundleManifest,
    tables: Mapping[str, Mapping[str, Any] | Iterable[pa.Table]],
    earlier: Bundle | None = None,
) -> Path:
    """Write a bundle aside and publish it as `runs_dir/<run_id>`, replacing an earlier one.

    `tables`: name in `TABLES` -> columns (arrays or lists), an arrow table, or arrow tables one after the
    other, each of which becomes a row group and is not held; rows of `decisions` must be sorted by layer,
    token, slot, and have a row group a layer. `earlier`: a part of the same run, whose tables are kept.
    Raises StoreError when the disk is full; nothing half-written is ever visible and the temporary
    directory is removed.
    """
    run_id = check_run_id(manifest.run_id)
    checked = {name: _to_groups(name, found) for name, found in tables.items()}
    need = sum(group.nbytes for groups in checked.values() if isinstance(groups, list) for group in groups)
    with _draft(runs_dir, run_id, need) as draft:
        files = _keep(earlier, draft) if earlier else {}
        files |= {f"{name}.parquet": _write_table(draft, name, groups) for name, groups in checked.items()}
        complete = manifest.model_copy(update={"files": files})
        _write(draft / MANIFEST, complete.to_json())
        _sync_directory(draft)
        _swap_in(draft, runs_dir / run_id)
        _sync_directory(runs_dir)
    return runs_dir / run_id


def remove(runs_dir: Path, run_id: str) -> bool:
    """Delete a published bundle: out of sight by one rename, then off the disk. False if there is none."""
    aside = runs_dir / f".tmp-{check_run_id(run_id)}-{os.getpid()}-gone"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        (runs_dir / run_id).rename(aside)
    except FileNotFoundError:
        return False
    shutil.rmtree(aside, ignore_errors=True)
    return True


def clean(runs_dir: Path) -> list[str]:
    """Remove what dead processes left half done; names removed. A draft in work is locked and stays."""
    removed = []
    for path in sorted(runs_dir.glob(".tmp-*")):
        _, run_id, pid, *_ = [*path.name.split("-"), "", ""]
        if _alive(pid) or _locked(path):
            continue
        if path.name.endswith("-old") and RUN_ID.fullmatch(run_id) and not (runs_dir / run_id).exists():
            path.rename(runs_dir / run_id)  # died between the two renames of a replacement
            continue
        shutil.rmtree(path, ignore_errors=True)
        removed.append(path.name)
    return removed


@contextmanager
def _draft(runs_dir: Path, run_id: str, need: int) -> Iterator[Path]:
    """A locked temporary directory, removed whatever happens; a full disk becomes a StoreError."""
    draft = runs_dir / f".tmp-{run_id}-{os.getpid()}"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700, parents=True)
        with _lock(draft):
            yield draft
    except OSError as error:
        if error.errno not in _FULL:
            raise StoreError(f"run {run_id} could not be written under {runs_dir}: {error}") from error
        free = shutil.disk_usage(runs_dir).free
        raise StoreError(
            f"the disk is full: run {run_id} needs up to {quantity(need, 'B')} and {quantity(free, 'B')} "
            f"is free under {runs_dir}; delete runs or set MOE_DATA_DIR to a larger disk"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _swap_in(draft: Path, final: Path) -> None:
    """Publish. A directory cannot be renamed over another, so an older run first steps aside."""
    old = draft.with_name(draft.name + "-old")
    try:
        final.rename(old)
    except FileNotFoundError:
        draft.rename(final)
        return
    try:
        draft.rename(final)
    except OSError:
        old.rename(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _keep(earlier: Bundle, draft: Path) -> dict[str, FileEntry]:
    """The files of an earlier part: second names of the same bytes, where the file system has those."""
    for name in earlier.manifest.files:
        try:
            os.link(earlier.path / name, draft / name)
        except OSError:
            shutil.copyfile(earlier.path / name, draft / name)
    return dict(earlier.manifest.files)


def _to_groups(name: str, found: Mapping[str, Any] | Iterable[pa.Table]) -> Iterable[pa.Table]:
    """Row groups: one a layer of `decisions`, else all rows in one; those that are handed over one by one."""
    if not isinstance(found, pa.Table | Mapping):
        return (_to_table(name, group) for group in found)
    table = _to_table(name, found)
    if name != "decisions":
        return [table]
    starts = _starts(table["layer"].to_numpy())
    return [table.slice(start, end - start) for start, end in pairwise((*starts, table.num_rows))]


def _starts(layer_N: np.ndarray) -> list[int]:
    """Where each layer begins."""
    return [0, *(np.flatnonzero(np.diff(layer_N)) + 1).tolist()]


def _to_table(name: str, columns: Mapping[str, Any] | pa.Table) -> pa.Table:
    """Columns under the table's own schema; what does not fit is a bug of the caller."""
    schema = TABLES[name]
    if isinstance(columns, pa.Table):
        table = columns.select(schema.names).cast(schema)
    else:
        needed = {field.name for field in schema if not field.nullable}
        assert needed <= set(columns) <= set(schema.names), f"{name}: columns {sorted(columns)}"
        rows = len(next(iter(columns.values())))
        arrays = [pa.array(columns.get(field.name, [None] * rows), type=field.type) for field in schema]
        table = pa.Table.from_arrays(arrays, schema=schema)
    filled = all(field.nullable or table[field.name].null_count == 0 for field in schema)
    assert filled, f"{name}: a column with nulls"
    assert name != "decisions" or _is_sorted(table), "decisions must be sorted by layer, token, slot"
    return table


def _is_sorted(decisions: pa.Table) -> bool:
    layer, token, slot = (decisions[name].to_numpy().astype(np.int64) for name in ("layer", "token", "slot"))
    key = (layer << 48) | (token << 16) | slot
    return bool(np.all(key[1:] > key[:-1]))


def _write_table(directory: Path, name: str, groups: Iterable[pa.Table]) -> FileEntry:
    rows, path = 0, directory / f"{name}.parquet"
    long = name == "decisions"
    with path.open("wb") as file:
        with pq.ParquetWriter(file, TABLES[name], **(_STORED_DECISIONS if long else _STORED)) as writer:
            for group in _a_layer_each(groups) if long else groups:
                writer.write_table(group, row_group_size=max(1, group.num_rows))
                rows += group.num_rows
        file.flush()
        os.fsync(file.fileno())
    with path.open("rb") as file:
        return FileEntry(rows=rows, sha256=_digest(file))


def _a_layer_each(groups: Iterable[pa.Table]) -> Iterator[pa.Table]:
    last = -1
    for group in groups:
        if group.num_rows:
            first, end = group["layer"][0].as_py(), group["layer"][-1].as_py()
            assert last < first == end, "decisions have a row group a layer, in order"
            last = end
        yield group


def _digest(file: BinaryIO) -> str:
    found = hashlib.sha256()
    while part := file.read(2**20):
        found.update(part)
    return found.hexdigest()


_STORED: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["domain", "model", "phase", "component", "subject", "series"],
}
_STORED_DECISIONS = _STORED | {  # half as large, and as fast
    "use_dictionary": ["layer", "slot", "weight"],
    "column_encoding": {"token": "DELTA_BINARY_PACKED", "expert": "BYTE_STREAM_SPLIT"},
}


def _write(path: Path, data: bytes | pa.Buffer) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Held by the kernel for this process: it ends with the process, however that ends."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:  # alive, and somebody else's
        return True
    return True


def _locked(directory: Path) -> bool:
    try:
        with _lock(directory):
            return False
    except OSError:  # held by its writer, or published a moment ago
        return True


# -- reading ---------------------------------------------------------------------------------------


def read(path: Path) -> Bundle:
    """Manifest of the bundle at `path`. Raises CorruptError, or StoreError for a foreign schema."""
    file = path / MANIFEST
    data = _read_bytes(file, _MANIFEST_BYTES)
    _look(file, data)
    try:
        manifest = BundleManifest.parse_json(data)
    except ConfigError as error:
        raise CorruptError(f"{file} is corrupt ({error}): {_AGAIN}") from error
    foreign = sorted(set(manifest.files) - {f"{name}.parquet" for name in TABLES})
    if foreign:
        raise StoreError(f"{file} lists unknown files {foreign}: update MoEScope, or {_AGAIN}")
    return Bundle(path, manifest, hashlib.sha256(data).hexdigest())


def _look(file: Path, data: bytes) -> None:
    """Is this JSON that says each thing once, of our schema, and unchanged since it was written?"""
    try:
        values = inputs.parse(data, MANIFEST, pairs=_once)
        found = values.get("schema") if isinstance(values, dict) else None
        same = isinstance(values, dict) and values.get("checksum") in (None, checksum(values))
    except ConfigError as error:
        raise CorruptError(f"{file} is corrupt (not JSON): {_AGAIN}") from error
    if type(found) is not int or found not in READABLE:  # True is 1 as well
        raise StoreError(
            f"{file} has schema {str(found)[:40]!r}, this version reads schema {READABLE[0]} to "
            f"{READABLE[-1]}: update MoEScope, or {_AGAIN}"
        )
    if not same:
        raise CorruptError(f"{file} is corrupt (its checksum differs): {_AGAIN}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is there twice")
    return values


def verify(path: Path) -> Bundle:
    """The bundle at `path`, every file checked. Raises StoreError naming the first that is wrong."""
    bundle = read(path)
    for name in bundle.tables:
        bundle.table(name)
    return bundle


def published(runs_dir: Path) -> list[Path]:
    """Every published bundle, by run id."""
    if not runs_dir.is_dir():
        return []
    return sorted(path for path in runs_dir.iterdir() if RUN_ID.fullmatch(path.name) and path.is_dir())


def _read_table(path: Path, name: str, entry: FileEntry) -> pa.Table:
    data = _read_bytes(path, _TABLE_BYTES)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise CorruptError(f"{path} is corrupt (its checksum differs): {_AGAIN}")
    with _sound(path):
        table = _ours(pq.read_table(pa.BufferReader(data)), name)
    _check_rows(path, table.num_rows, entry)
    return table


def _read_groups(path: Path, name: str, entry: FileEntry) -> Iterator[pa.Table]:
    """Nothing is handed out of a file that was not read through once; what is read is the same open file."""
    with _sound(path), inputs.opened(path) as file:
        if _digest(file) != entry.sha256:
            raise CorruptError(f"{path} is corrupt (its checksum differs): {_AGAIN}")
        found = pq.ParquetFile(file)
        _check_rows(path, found.metadata.num_rows, entry)
        for group in range(found.num_row_groups):
            yield _ours(found.read_row_group(group), name)


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, ValueError, OSError) as error:  # OSError: its pages are damaged
        raise CorruptError(f"{path} is not the table this version reads ({error}): {_AGAIN}") from error


def _check_rows(path: Path, rows: int, entry: FileEntry) -> None:
    if rows != entry.rows:
        raise CorruptError(f"{path} has {rows} rows, its manifest says {entry.rows}: {_AGAIN}")


def _ours(table: pa.Table, name: str) -> pa.Table:
    return _with_younger(table, TABLES[name]).cast(TABLES[name])


def _with_younger(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in the order of `schema`; a nullable column that is younger than the run has no values."""
    for field in schema:
        if field.name not in table.column_names and field.nullable:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names) if set(table.column_names) == set(schema.names) else table


def _read_bytes(path: Path, most: int) -> bytes:
    try:
        return inputs.content(path, most)
    except inputs.NotAFile as error:
        raise CorruptError(f"{path} is not a file: {_AGAIN}") from error
    except FileNotFoundError as error:
        raise CorruptError(f"{path} is missing: {_AGAIN}") from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read ({error.strerror}): check the disk and its permissions"
        ) from error
