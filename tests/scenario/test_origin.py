"""Whose load: what is asked for, else a trace of a model like it, own ones first, else the test model."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from moe_core.errors import ConfigError
from moe_core.scenario import link
from moe_core.scenario.origin import AUTO, EVEN, TEST, ServedTrace, chosen
from moe_core.scenario.spec import Scenario


def trace(run_id: str, bank: tuple[int, int] = (64, 6), day: int = 1, shipped: bool = False) -> ServedTrace:
    return ServedTrace(run_id, "a title", "a model", *bank, datetime(2026, 1, day, tzinfo=UTC), shipped)


HERE = (
    trace("a" * 16, shipped=True, day=9),
    trace("b" * 16, day=2),
    trace("c" * 16, day=3),
    trace("d" * 16, (8, 2)),
)


@pytest.mark.parametrize(
    ("origin", "bank", "found"),
    [
        (AUTO, (64, 6, 2), "c" * 16),
        (AUTO, (8, 2, 0), "d" * 16),
        (AUTO, (64, 8, 0), TEST),
        (AUTO, None, TEST),
        (EVEN, (64, 6, 2), EVEN),
        (TEST, (64, 6, 2), TEST),
        ("a" * 16, (8, 2, 0), "a" * 16),
    ],
)
def test_whose_load(origin: str, bank: tuple[int, ...] | None, found: str) -> None:
    assert chosen(origin, bank, HERE) == found


def test_what_ships_goes_after_ones_own() -> None:
    assert chosen(AUTO, (64, 6), HERE[:1]) == "a" * 16
    assert chosen(AUTO, (64, 6), HERE[:2]) == "b" * 16


@pytest.mark.parametrize("origin", ["e" * 16, "", "evenly", "../x"])
def test_what_is_not_here_is_one_sentence(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"^load \(.*\): must be auto, even, test or a trace that is here$"):
        chosen(origin, (64, 6), HERE)


def test_it_is_in_the_link() -> None:
    for load in (EVEN, TEST, "a" * 16):
        said = link.spoken(Scenario(load=load))
        assert said["load"] == load
        assert link.scenario(said).load == load
    assert "load" not in link.spoken(Scenario())
    with pytest.raises(ConfigError, match=r"load \(x\): must be auto, even, test or the id of a trace"):
        link.scenario({"load": "x"})
