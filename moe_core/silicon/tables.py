"""Look-ups in the measured tables: DuckDB reads the Parquet where it lies, one device and format at a time.

What was read stays in memory, so later look-ups are a bisection. Between measured points the
logarithms are interpolated linearly along the measured axis: tokens, batch, context, bytes. Outside
the measured range, or for a shape no table holds, the answer is None: a model must serve it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache as once
from functools import lru_cache
from itertools import pairwise
from math import exp, log
from typing import Any, NamedTuple

import duckdb
import numpy as np

from moe_core.silicon.systems import DATA

_SHAPES = 65_536  # curves kept in memory, a few hundred bytes each
_GROUP = ("system", "framework", "dtype")  # rows that are read together
_Shape = tuple[tuple[str, Any], ...]


class Where(NamedTuple):
    """What was measured on: a system of `systems.toml`, a framework and its numbers format."""

    system: str
    framework: str
    dtype: str


class Curve(NamedTuple):
    """Seconds along one axis, both as logarithms, ascending."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def at(self, value: float) -> float | None:
        """Seconds at `value`, None outside the measured range."""
        if not self.x or value <= 0:
            return None
        point = log(value)
        if not self.x[0] - 1e-9 <= point <= self.x[-1] + 1e-9:
            return None
        right = bisect_left(self.x, point)
        if right == 0:
            return exp(self.y[0])
        if right == len(self.x):
            return exp(self.y[-1])
        share = (point - self.x[right - 1]) / (self.x[right] - self.x[right - 1])
        return exp(self.y[right - 1] + share * (self.y[right] - self.y[right - 1]))


class CurveGrid(NamedTuple):
    """Curves side by side along a second axis; a point needs both neighbours."""

    x: tuple[float, ...]
    curves: tuple[Curve, ...]

    def at(self, first: float, second: float) -> float | None:
        """Seconds at (first, second): along `second` on both neighbours, then between them."""
        if not self.x or first <= 0:
            return None
        point = log(first)
        right = bisect_left(self.x, point - 1e-9)
        if right == len(self.x) or (right == 0 and point < self.x[0] - 1e-9):
            return None
        if abs(self.x[right] - point) <= 1e-9:
            return self.curves[right].at(second)
        low, high = self.curves[right - 1].at(second), self.curves[right].at(second)
        if low is None or high is None:
            return None
        share = (point - self.x[right - 1]) / (self.x[right] - self.x[right - 1])
        return exp(log(low) + share * (log(high) - log(low)))


def moe(
    where: Where,
    tokens: float,
    *,
    hidden: int,
    inter: int,
    experts: int,
    top_k: int,
    tp: int = 1,
    ep: int = 1,
    distribution: str = "power_law_1.01",
) -> float | None:
    """Seconds of the grouped experts of one layer for `tokens` tokens on all ranks together."""
    shape = (("hidden", hidden), ("inter", inter), ("experts", experts), ("top_k", top_k))
    split = (("tp", tp), ("ep", ep), ("distribution", distribution))
    return _curve("moe", (*_named(where), *shape, *split), "tokens").at(tokens)


def gemm(where: Where, m: float, n: int, k: int) -> float | None:
    """Seconds of [m, k] x [k, n]; None unless n and k were measured."""
    return _gemm(where, n, k).at(m)


@lru_cache(maxsize=64)
def gemms(where: Where) -> dict[tuple[int, int], Curve]:
    """Every measured (n, k) of one table."""
    return {(n, k): _gemm(where, n, k) for n, k in _gemm_block(where).places}


def _gemm_block(where: Where) -> _Block:
    return _block("gemm", _named(where), ("n", "k"), ("m",), "seconds")


@lru_cache(maxsize=_SHAPES)
def _gemm(where: Where, n: int, k: int) -> Curve:
    return _curve("gemm", (*_named(where), ("n", n), ("k", k)), "m")


def gemm_between(where: Where, m: float, n: int, k: int) -> float | None:
    """Seconds of [m, k] x [k, n] from the four measured shapes around it; None outside all of them."""
    sides = _sides(gemm_sizes(where, "n"), n), _sides(gemm_sizes(where, "k"), k)
    if not all(sides):
        return None
    (low_n, high_n), (low_k, high_k) = sides
    corners = [gemm(where, m, a, b) for a in (low_n, high_n) for b in (low_k, high_k)]
    if any(corner is None for corner in corners):
        return None
    logs = [log(corner) for corner in corners if corner is not None]
    along_n, along_k = _share(low_n, high_n, n), _share(low_k, high_k, k)
    narrow, wide = (logs[i] + along_k * (logs[i + 1] - logs[i]) for i in (0, 2))
    return exp(narrow + along_n * (wide - narrow))


def _sides(sizes: tuple[int, ...], value: int) -> tuple[int, ...]:
    """The measured sizes below and above `value`, the same twice on one; empty outside."""
    if not sizes or not sizes[0] <= value <= sizes[-1]:
        return ()
    right = bisect_left(sizes, value)
    return (sizes[right],) * 2 if sizes[right] == value else (sizes[right - 1], sizes[right])


def _share(low: int, high: int, value: int) -> float:
    return 0.0 if low == high else log(value / low) / log(high / low)


@lru_cache(maxsize=256)
def gemm_sizes(where: Where, axis: str) -> tuple[int, ...]:
    """Every measured n or k, ascending; empty where nothing was measured."""
    return tuple(sorted({shape[0 if axis == "n" else 1] for shape in _gemm_block(where).places}))


def context_attention(
    where: Where,
    batch: float,
    isl: float,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int = 0,
    kv_dtype: str = "bf16",
) -> float | None:
    """Seconds of causal attention of one layer over whole prompts, heads of one device."""
    shape = _heads(heads, kv_heads, head_dim, window, kv_dtype)
    return _grid("attention_context", (*_named(where), *shape), "batch", "isl").at(batch, isl)


def generation_attention(
    where: Where,
    batch: float,
    past: float,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int = 0,
    kv_dtype: str = "bf16",
) -> float | None:
    """Seconds of attention of one layer: a new token in each of `batch` sequences after `past` others."""
    shape = _heads(heads, kv_heads, head_dim, window, kv_dtype)
    return _grid("attention_generation", (*_named(where), *shape), "batch", "past").at(batch, past)


def mla(
    where: Where, batch: float, length: float, *, heads: int, kv_dtype: str = "bf16", prefill: bool = False
) -> float | None:
    """Seconds of DeepSeek's latent attention of one layer: the kernel alone, without projections.

    `length` is the prompt in prefill and the tokens before this one in decode.
    """
    shape = (("part", "kernel"), ("kv_dtype", kv_dtype), ("heads", heads))
    if prefill:
        return _grid("mla", (*_named(where), *shape, ("past", 0)), "batch", "isl").at(batch, length)
    return _grid("mla", (*_named(where), *shape, ("isl", 1)), "batch", "past").at(batch, length)


def collective(
    system: str, op: str, ranks: int, nbytes: float, *, library: str = "nccl", mode: str = "nccl"
) -> float | None:
    """Seconds of one collective on the whole buffer of `nbytes`, inside one node."""
    dtype = "fp16" if library == "nccl" else "bf16"
    where = Where(system, library, dtype)
    return _curve("collective", (*_named(where), ("op", op), ("mode", mode), ("ranks", ranks)), "bytes").at(
        nbytes
    )


def deepep(
    system: str,
    tokens: float,
    *,
    hidden: int,
    experts: int,
    top_k: int,
    ranks: int = 8,
    mode: str = "low_latency",
) -> tuple[float, float] | None:
    """Seconds of dispatch and combine with `tokens` tokens on each rank; the fastest number of SMs."""
    shape = (("system", system), ("mode", mode), ("ranks", ranks), ("hidden", hidden))
    bank = (("experts", experts), ("top_k", top_k))
    there = _curve("deepep", (*shape, *bank), "tokens", "dispatch").at(tokens)
    back = _curve("deepep", (*shape, *bank), "tokens", "combine").at(tokens)
    return None if there is None or back is None else (there, back)


def linear_attention(
    system: str,
    framework: str,
    batch: float,
    seq: float,
    *,
    key_heads: int,
    value_heads: int,
    key_dim: int,
    value_dim: int,
    prefill: bool = False,
) -> float | None:
    """Seconds of the convolution and the state update of one Gated DeltaNet layer."""
    place = (("system", system), ("framework", framework), ("phase", "context" if prefill else "generation"))
    heads = (("key_heads", key_heads), ("value_heads", value_heads))
    sizes = (("key_dim", key_dim), ("value_dim", value_dim))
    parts = [
        _grid("linear_attention", (*place, *heads, *sizes, ("op", op)), "batch", "seq").at(batch, seq)
        for op in ("convolution", "state")
    ]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def measured(table: str, columns: Sequence[str], **equal: str | int) -> dict[str, list[Any]]:
    """Columns of every row whose fields equal `equal`: what a fit reads."""
    names = ", ".join(f'"{name}"' for name in columns)
    rows = _rows(f"SELECT {names} FROM read_parquet('{DATA / table}.parquet') WHERE {_where(equal)}", equal)
    return {name: [row[i] for row in rows] for i, name in enumerate(columns)}


def _heads(
    heads: int, kv_heads: int, head_dim: int, window: int, kv_dtype: str
) -> tuple[tuple[str, Any], ...]:
    one = (("heads", heads), ("kv_heads", kv_heads), ("head_dim", head_dim))
    return (*one, ("window", window), ("kv_dtype", kv_dtype))


def _named(where: Where) -> tuple[tuple[str, Any], ...]:
    return tuple(zip(("system", "framework", "dtype"), where, strict=True))


@lru_cache(maxsize=_SHAPES)
def _curve(table: str, shape: _Shape, axis: str, value: str = "seconds") -> Curve:
    """The measured curve of one shape, empty where there is none; of several kernels the fastest point."""
    return _as_curve(_points(table, shape, (axis,), value))


@lru_cache(maxsize=_SHAPES)
def _grid(table: str, shape: _Shape, first: str, second: str) -> CurveGrid:
    rows = _points(table, shape, (first, second), "seconds")
    firsts = sorted({row[0] for row in rows})
    curves = tuple(_as_curve([row[1:] for row in rows if row[0] == value]) for value in firsts)
    return CurveGrid(tuple(log(value) for value in firsts), curves)


def _points(table: str, shape: _Shape, axes: tuple[str, ...], value: str) -> Sequence[tuple[Any, ...]]:
    """Positions and the least value of one shape, ascending."""
    group = tuple(one for one in shape if one[0] in _GROUP)
    rest = tuple(one for one in shape if one[0] not in _GROUP)
    read = _block(table, group, tuple(name for name, _ in rest), axes, value)
    return read.points(tuple(wanted for _, wanted in rest))


class _Block(NamedTuple):
    """The rows of one group, sorted: where each shape begins and ends in the columns of axes and value."""

    places: dict[tuple[Any, ...], slice]
    columns: tuple[np.ndarray[Any, np.dtype[Any]], ...]

    def points(self, shape: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Positions and value of one shape; none where it was not measured."""
        place = self.places.get(shape)
        if place is None:
            return []
        return list(zip(*(column[place].tolist() for column in self.columns), strict=True))


_HEADS = ("heads", "kv_heads", "head_dim", "window", "kv_dtype")
_BANK = ("hidden", "inter", "experts", "top_k", "tp", "ep", "distribution")
_DELTA = ("phase", "key_heads", "value_heads", "key_dim", "value_dim", "op")
_DEEPEP = ("mode", "ranks", "hidden", "experts", "top_k")
_ASKED = (  # what is looked up: a table, its groups, what names a shape, the axes it was measured along
    ("gemm", _GROUP, ("n", "k"), ("m",), "seconds"),
    ("moe", _GROUP, _BANK, ("tokens",), "seconds"),
    ("attention_generation", _GROUP, _HEADS, ("batch", "past"), "seconds"),
    ("attention_context", _GROUP, _HEADS, ("batch", "isl"), "seconds"),
    ("mla", _GROUP, ("part", "kv_dtype", "heads", "past"), ("batch", "isl"), "seconds"),
    ("mla", _GROUP, ("part", "kv_dtype", "heads", "isl"), ("batch", "past"), "seconds"),
    ("linear_attention", _GROUP[:2], _DELTA, ("batch", "seq"), "seconds"),
    ("collective", _GROUP, ("op", "mode", "ranks"), ("bytes",), "seconds"),
    ("deepep", _GROUP[:1], _DEEPEP, ("tokens",), "dispatch"),
    ("deepep", _GROUP[:1], _DEEPEP, ("tokens",), "combine"),
)


def preload() -> None:
    """Read all of it, 1 to 2 s and 100 MB: no visitor of a server waits for a table."""
    for table, group, names, axes, value in _ASKED:
        for one in sorted(_groups(table, group)):
            _block(table, tuple(zip(group, one, strict=True)), names, axes, value)


@once
def _groups(table: str, names: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    """What was measured at all, by system, framework and format."""
    listed = ", ".join(names)
    return frozenset(_rows(f"SELECT DISTINCT {listed} FROM read_parquet('{DATA / table}.parquet')", {}))


@lru_cache(maxsize=512)
def _block(table: str, group: _Shape, names: tuple[str, ...], axes: tuple[str, ...], value: str) -> _Block:
    """Every shape of one group of a table: a knob asks for many, and one query is as long as three."""
    equal, fields = dict(group), [*names, *axes]
    if tuple(equal.values()) not in _groups(table, tuple(equal)):
        return _Block({}, ())
    listed = ", ".join(f'"{name}"' for name in fields)
    known = " AND ".join(f'"{name}" > 0' for name in (*axes, value))
    sql = (
        f"SELECT {listed}, min(\"{value}\") AS least FROM read_parquet('{DATA / table}.parquet')"
        f" WHERE {_where(equal)} AND {known} GROUP BY {listed} ORDER BY {listed}"
    )
    rows = _connection().execute(sql, list(equal.values())).fetchnumpy()
    keys = [np.asarray(rows[name]) for name in names]
    many = len(rows["least"])
    differ = np.logical_or.reduce([key[1:] != key[:-1] for key in keys]) if many else np.zeros(0, bool)
    starts = [0, *(np.flatnonzero(differ) + 1).tolist(), many] if many else []
    shapes = zip(*(key[starts[:-1]].tolist() for key in keys), strict=True) if many else ()
    places = {shape: slice(*ends) for shape, ends in zip(shapes, pairwise(starts), strict=True)}
    return _Block(places, tuple(np.asarray(rows[name]) for name in (*axes, "least")))


def _as_curve(rows: Sequence[tuple[Any, ...]]) -> Curve:
    return Curve(tuple(log(row[0]) for row in rows), tuple(log(row[1]) for row in rows))


def _where(equal: dict[str, Any]) -> str:
    return " AND ".join(f'"{name}" = ?' for name in equal) or "true"


@once
def _database() -> duckdb.DuckDBPyConnection:
    """In memory, and empty: files are read where they lie."""
    found = duckdb.connect()
    found.execute("SET threads = 1")
    return found


def _connection() -> duckdb.DuckDBPyConnection:
    """One for this query: threads do not share one, and a server has a new thread for every rerun."""
    return _database().cursor()


def _rows(sql: str, equal: dict[str, Any]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = _connection().execute(sql, list(equal.values())).fetchall()
    return found
