"""The load benchmark: a real server, real websockets, real protobufs; and its arithmetic."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import load
from benchmarks.load import Moved


def test_percentiles_and_failures() -> None:
    rows = [Moved("batch", i / 100, 2000, i == 7) for i in range(1, 101)]
    found = load.summary(rows)
    assert found["reruns"] == 100
    assert found["p50_s"] == pytest.approx(0.505)
    assert found["p95_s"] == pytest.approx(0.95)
    assert found["max_s"] == 1.0
    assert found["failed"] == 1
    assert found["kilobytes"] == 2.0
    assert found["knobs"]["batch"]["reruns"] == 100


def test_pairs_of_knob_values_repeat_late() -> None:
    """Two sessions' worth of moves without the same pair twice."""
    pairs, turns = [], {knob: 0 for knob in load.KNOBS}
    values = dict.fromkeys(load.KNOBS, 0)
    for move in range(48):
        knob = load._knob(move)
        values[knob] = load.KNOBS[knob][turns[knob] % len(load.KNOBS[knob])]
        turns[knob] += 1
        pairs.append(tuple(values.values()))
    assert len(set(pairs)) == len(pairs)


@pytest.mark.slow
def test_two_sessions_move_their_knobs() -> None:
    with load.served() as port:
        found = asyncio.run(load.measure(port, sessions=2, moves=2, think=0.1))
    assert {name: len(rows) for name, rows in found.items()} == {
        "first": 2,
        "alone": 4,
        "paced": 4,
        "at once": 4,
    }
    every = [row for rows in found.values() for row in rows]
    assert not any(row.failed for row in every)
    assert all(row.received > 10_000 for row in every)  # charts came, not only words
