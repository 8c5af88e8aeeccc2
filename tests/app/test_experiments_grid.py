"""The grid on a page: who beats which dense model, over work and over bytes."""

import pytest

from app.experiments import grid as shown
from moe_core import grid
from moe_core.grid import LADDER, Member
from tests.shelf import ship


@pytest.mark.usefixtures("shelf")
def test_each_mixture_stands_against_its_own_dense_models():
    for step, width in enumerate(LADDER):  # 16 ... 1024 neurons: 3.0 ... 2.4 bits
        ship(Member(0, 0, 0, width), 3.0 - 0.1 * step)
    ship(Member(16, 4, 0), 2.7)  # equal work 2.8, equal bytes 2.6
    ship(Member(8, 1, 0), 3.1)  # worse than both
    table = shown.rows().set_index("name")
    row = table.loc["16 experts, top-4"]
    assert (row["equal_work"], row["equal_bytes"]) == (pytest.approx(2.8), pytest.approx(2.6))
    assert row["equivalent"] == pytest.approx(128)
    assert (row["work"], row["bytes"]) == (64, 256)
    assert shown.sentence(shown.rows()) == (
        "2 mixtures trained alike, one seed each: 1 of 2 beat the dense model of equal active size "
        "and 0 of 2 beat the dense model of equal total size"
    )
    told = shown.compared(table.reset_index()).set_index("name").loc["16 experts, top-4"]
    assert (told["active"], told["total"]) == (pytest.approx(-0.1), pytest.approx(0.1))
    work = shown.chart(shown.rows(), "work")
    words = "between 0.100 bits per byte worse and 0.100 better than a dense model with as much work"
    assert work.title == f"Mixtures are {words}"
    assert "as many bytes" in shown.chart(shown.rows(), "bytes").title


@pytest.mark.usefixtures("shelf")
def test_what_is_not_trained_yet_is_left_open():
    ship(Member(16, 4, 1), 2.7)
    assert "still missing" in shown.sentence(shown.rows())
    assert shown.chart(shown.rows(), "work").title.startswith("The best, 16 experts, top-4, 1 shared")


@pytest.mark.usefixtures("shelf")
def test_a_single_one_is_named():
    for width, bits in ((64, 2.8), (256, 2.6)):
        ship(Member(0, 0, 0, width), bits)
    ship(Member(16, 4, 0), 2.7)
    title = shown.chart(shown.rows(), "bytes").title
    worse = "0.100 bits per byte worse than a dense model with as many bytes"
    assert title == f"16 experts, top-4: this mixture is {worse}"


def test_what_ships_is_drawn():
    table = shown.rows()
    assert len(table) == len(grid.scores()) > 0
    assert shown.chart(table, "bytes").data is table
