"""Select and compact published GPU measurements: `python -m moe_core.silicon.workshop.build --package DIR`.

Reads the tables of the PyPI package aiconfigurator-core (Apache-2.0), unpacked at DIR, and writes
data/silicon/*.parquet, manifest.json beside them. A development tool: the program itself reads only
what it wrote. The same package gives the same bytes.

One row a point: where several kernels were timed the fastest stays, where one kernel was timed twice
the median. What beats the data sheet is dropped (it was read from cache, or is wrong). Seconds are
float32 with 13 significant bits, an error of at most 0.01 %.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_core import hardware
from moe_core.silicon.systems import DATA, SYSTEMS
from moe_core.silicon.workshop import selection
from moe_core.silicon.workshop.selection import SourceFile

PACKAGE = "aiconfigurator-core 0.12.0"
BEYOND = 1.05  # of the data sheet's peak: clocks vary by a few per cent, not more
_KEPT_BITS = 12  # of the mantissa, the leading one not counted
_GROUP = 32_768


class Built(NamedTuple):
    """What one source file gave: rows read, and rows that went for each reason."""

    table: str
    system: str
    framework: str
    version: str
    read: int
    repeats: int
    beyond_roof: int
    kept: int


def build(package: Path, target: Path = DATA) -> list[Built]:
    """Write every table and the manifest; returns what was read and kept."""
    systems = package / "aiconfigurator_core" / "systems"
    target.mkdir(parents=True, exist_ok=True)
    done: list[Built] = []
    for table in selection.TABLES:
        found = [_read(systems, source) for source in selection.sources(table)]
        found = [(rows, built) for rows, built in found if built.kept]
        _write(pa.concat_tables([rows for rows, _ in found]), target / f"{table}.parquet")
        done += [built for _, built in found]
    _write(_samples(systems / "silicon_sample.csv"), target / "samples.parquet")
    _manifest(done, target)
    return done


def _read(systems: Path, source: SourceFile) -> tuple[pa.Table, Built]:
    """The rows of one file in our columns, one a point, none beyond the roof."""
    path = systems / "data" / source.path
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    columns = {row[0] for row in connection.execute(selection.describe(path)).fetchall()}
    connection.execute(selection.points(source, path, columns))
    read, kept = connection.execute(selection.COUNT).fetchall()[0]
    limits = _limits(source)
    connection.execute(selection.within_roof(source, limits))
    rows = connection.sql(selection.ordered(source)).to_arrow_table()
    built = Built(
        *(source.table, source.system, source.framework, source.version),
        *(read, read - kept, kept - rows.num_rows, rows.num_rows),
    )
    return rows, built


def _limits(source: SourceFile) -> dict[str, float]:
    """Data-sheet peaks of the source's system, a little above: FLOP/s in 16 bits and bytes a second."""
    device = hardware.get(SYSTEMS[source.system])
    return {"flops": BEYOND * device.peak("bf16"), "bytes": BEYOND * device.bandwidth}


def _write(rows: pa.Table, path: Path) -> None:
    """Parquet that compresses well: texts as dictionaries, rounded seconds split by byte."""
    floats = [field.name for field in rows.schema if pa.types.is_floating(field.type)]
    for name in floats:
        values = _rounded(rows[name].to_numpy())
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values, from_pandas=True))
    pq.write_table(
        rows.replace_schema_metadata({}),
        path,
        compression="zstd",
        compression_level=19,
        row_group_size=_GROUP,
        use_dictionary=[field.name for field in rows.schema if field.name not in floats],
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
    )


def _rounded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """float32 with the low bits of the mantissa rounded to zero."""
    drop = 23 - _KEPT_BITS
    bits = values.astype(np.float32).view(np.uint32).astype(np.int64)
    whole = ((bits + (1 << (drop - 1))) >> drop << drop).astype(np.uint32)
    return np.where(np.isnan(values), np.float32("nan"), whole.view(np.float32))


def _samples(path: Path) -> pa.Table:
    """The end-to-end rows: names of ours, seconds, and where each was measured."""
    connection = duckdb.connect()
    return connection.sql(selection.samples(path)).to_arrow_table()


def _manifest(done: list[Built], target: Path) -> None:
    files = sorted(target / f"{name}.parquet" for name in (*selection.TABLES, "samples"))
    record = {
        "package": PACKAGE,
        "licence": "Apache-2.0",
        "rows": {file.stem: pq.read_metadata(file).num_rows for file in files},
        "bytes": {file.stem: file.stat().st_size for file in files},
        "sources": [built._asdict() for built in done],
    }
    (target / "manifest.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _lines(done: list[Built]) -> Iterator[str]:
    for table in selection.TABLES:
        mine = [built for built in done if built.table == table]
        kept, read = sum(b.kept for b in mine), sum(b.read for b in mine)
        yield f"{table}: {kept:,} of {read:,} rows from {len(mine)} files"


def main() -> None:
    """Build from an unpacked wheel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, required=True, help="folder with aiconfigurator_core/")
    parser.add_argument("--target", type=Path, default=DATA)
    given = parser.parse_args()
    print("\n".join(_lines(build(given.package, given.target))))


if __name__ == "__main__":
    main()
