"""The shipped tables: their size, columns, rows, and that nothing in them beats the data sheet."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from moe_core import hardware
from moe_core.silicon.systems import DATA, SAMPLES, SCALED, SYSTEMS
from moe_core.silicon.workshop import build, selection
from moe_core.silicon.workshop.selection import SourceFile

MANIFEST = json.loads((DATA / "manifest.json").read_text())
TEXTS = ("system", "framework", "version", "kernel")


def rows(sql: str) -> list[tuple[object, ...]]:
    return duckdb.connect().execute(sql).fetchall()


def file(table: str) -> Path:
    return DATA / f"{table}.parquet"


def test_everything_fits_in_fifteen_megabytes():
    assert sum(path.stat().st_size for path in DATA.iterdir()) <= 15_000_000


@pytest.mark.parametrize("table", selection.TABLES)
def test_columns_and_rows_are_those_of_the_manifest(table):
    found = pq.ParquetFile(file(table))
    shape = selection.TABLES[table]
    assert tuple(found.schema_arrow.names) == (*TEXTS, *shape.keys, *shape.values)
    assert found.metadata.num_rows == MANIFEST["rows"][table]
    assert found.metadata.num_rows == sum(s["kept"] for s in MANIFEST["sources"] if s["table"] == table)
    for source in MANIFEST["sources"]:
        assert source["read"] == source["repeats"] + source["beyond_roof"] + source["kept"]


@pytest.mark.parametrize("table", selection.TABLES)
def test_one_row_a_point_and_every_time_is_positive(table):
    shape = selection.TABLES[table]
    keys = ", ".join(f'"{key}"' for key in ("system", "framework", "version", *shape.keys))
    twice = rows(f"SELECT count(*) FROM (SELECT 1 FROM '{file(table)}' GROUP BY {keys} HAVING count(*) > 1)")
    assert twice == [(0,)]
    wrong = " OR ".join(f"{value} <= 0 OR {value} IS NULL" for value in shape.values if table != "deepep")
    if wrong:
        assert rows(f"SELECT count(*) FROM '{file(table)}' WHERE {wrong}") == [(0,)]


@pytest.mark.parametrize("table", ["gemm", "attention_context", "attention_generation"])
def test_nothing_beats_the_data_sheet(table):
    """The slice without a window ran at several times the memory's bandwidth: from cache, or wrong."""
    shape = selection.TABLES[table]
    for system, name in SYSTEMS.items():
        device = hardware.get(name)
        found = rows(
            f"SELECT max({shape.flops} / seconds), max({shape.bytes} / seconds)"
            f" FROM '{file(table)}' WHERE system = '{system}'"
        )[0]
        assert found[0] <= 1.06 * device.peak("bf16")
        assert found[1] <= 1.06 * device.bandwidth
    assert sum(s["beyond_roof"] for s in MANIFEST["sources"] if s["table"] == "attention_generation") > 10_000


def test_the_systems_asked_for_are_there_in_both_frameworks():
    for table in ("moe", "gemm", "attention_context", "attention_generation"):
        found = {(r[0], r[1]) for r in rows(f"SELECT DISTINCT system, framework FROM '{file(table)}'")}
        assert found == {(system, framework) for system in SYSTEMS for framework in ("vllm", "sglang")}


def test_no_path_of_somebody_s_machine_is_shipped():
    assert rows(f"SELECT count(*) FROM '{file('samples')}' WHERE origin LIKE '%/Users/%'") == [(0,)]


def test_every_device_has_a_measured_system_or_the_nearest():
    served = {*SYSTEMS.values(), *SCALED}
    assert served == set(hardware.names())
    assert set(SCALED.values()) <= set(SYSTEMS)
    assert set(SAMPLES.values()) <= served


def test_the_readme_tells_the_rows_and_the_caveats():
    text = (DATA / "README.md").read_text()
    assert MANIFEST["package"].split()[1] in text
    assert "Apache-2.0" in text
    for table, number in MANIFEST["rows"].items():
        assert f"| `{table}` | {number:,} |" in text, table
    dropped = sum(s["beyond_roof"] for s in MANIFEST["sources"])
    assert f"{dropped:,} rows" in text


def test_repeats_keep_the_fastest_kernel_and_the_median_of_one(tmp_path):
    path = tmp_path / "gemm.parquet"
    duckdb.connect().execute(
        "COPY (SELECT * FROM (VALUES"
        " ('bfloat16', 8, 64, 64, 'slow', 4.0), ('bfloat16', 8, 64, 64, 'fast', 1.0),"
        " ('bfloat16', 8, 64, 64, 'fast', 3.0), ('bfloat16', 8, 64, 64, 'fast', 2.0),"
        " ('int4_wo', 4096, 4096, 4096, 'wrong', 1e-9))"
        f" t(gemm_dtype, m, n, k, kernel_source, latency)) TO '{path}'"
    )
    source = SourceFile("gemm", "h100_sxm", "vllm", "0", path.name)
    (tmp_path / "data").mkdir()
    path.rename(tmp_path / "data" / path.name)
    found, built = build._read(tmp_path, source)
    assert (built.read, built.repeats, built.beyond_roof, built.kept) == (5, 3, 1, 1)
    row = found.to_pylist()[0]
    assert (row["kernel"], row["dtype"], row["seconds"]) == ("fast", "bf16", pytest.approx(0.002))


def test_rounded_seconds_are_within_a_hundredth_of_a_per_cent():
    import numpy as np

    values = np.geomspace(1e-7, 10, 10_001)
    assert np.abs(build._rounded(values) / values - 1).max() <= 1.3e-4
    assert np.isnan(build._rounded(np.array([float("nan")]))).all()
