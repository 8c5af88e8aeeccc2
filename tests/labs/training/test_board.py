"""Board: points and loads in, a live picture and a bundle out."""

from __future__ import annotations

import math

import pytest

from moe_core.errors import CancelledError
from moe_core.labs.training.board import SHOWN, Board
from moe_core.labs.training.statistics import Finding
from moe_core.runs import bundle
from moe_core.runs.context import RunContext
from moe_core.settings import Settings
from moe_core.specs import RunSpec, Training

SPEC = RunSpec(lab="collapse", training=Training())


def written(context: RunContext | None = None) -> Board:
    board = Board(SPEC, context or RunContext(), {"window": 0.25})
    for seed in (1, 0):
        for step in (1, 2):
            board.put("one", seed, "loss", step, 10 * seed + step)
    board.put("two", 0, "loss", 0.01, 5.0, axis="alpha")
    board.load("one", 0, 1, [[1, 2], [3, 4]])
    board.load("one", 0, 2, [[5, 6], [7, 8]])
    return board


def test_what_was_put_is_found_again():
    board = written()
    assert board.curve("one", 1, "loss") == ([1.0, 2.0], [11.0, 12.0])
    assert board.curve("two", 0, "loss", "alpha") == ([0.01], [5.0])
    assert board.seeds("one") == [0, 1]
    assert board.last("one", "loss") == [2.0, 12.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused(value: float):
    with pytest.raises(AssertionError, match="one, seed 0: loss is"):
        written().put("one", 0, "loss", 3, value)


def test_a_picture_is_short_and_shows_the_last_load():
    board = written()
    for step in range(1000):
        board.put("long", 0, "loss", step, step / 3)
    picture = board.picture()
    long = next(row for row in picture["series"] if row["arm"] == "long")
    assert SHOWN / 2 <= len(long["x"]) == len(long["value"]) <= 2 * SHOWN
    assert picture["loads"] == [{"arm": "one", "seed": 0, "step": 2, "load": [[5, 6], [7, 8]]}]
    assert picture["lab"] == "collapse"


def test_a_picture_is_shown_while_it_goes_on():
    shown: list[object] = []
    board = written(RunContext(show=shown.append))
    board.step(0.5)
    board.step(0.5)
    assert len(shown) == 1  # the second comes too soon


def test_a_step_can_be_the_last():
    def stop() -> None:
        raise CancelledError("enough")

    with pytest.raises(CancelledError):
        written(RunContext(check=stop)).step(0.5)


def test_a_bundle_holds_all_of_it(settings: Settings):
    path = written().publish({"ratio": Finding(2.0, 1.5, 2.5, 3, "nats")}, {})
    done = bundle.verify(path)
    table = done.table("series").to_pandas()
    assert len(table) == 5
    row = table[(table.arm == "one") & (table.seed == 1) & (table.x == 2)].iloc[0]
    assert (row.metric, row.axis, row.value) == ("loss", "step", 12.0)
    loads = done.table("loads").to_pandas()
    assert loads.groupby("step").load.sum().to_dict() == {1: 10, 2: 26}
    assert loads[(loads.step == 2) & (loads.layer == 1) & (loads.expert == 0)].load.item() == 7
    expected = {"value": 2.0, "low": 1.5, "high": 2.5, "seeds": 3, "unit": "nats"}
    assert done.manifest.summary["findings"] == {"ratio": expected}
    assert done.manifest.provenance["rules"] == {"window": 0.25}
    assert done.manifest.spec == SPEC.model_dump(mode="json")
