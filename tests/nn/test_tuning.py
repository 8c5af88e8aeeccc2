"""Tuning: which candidate is fastest where, between and beyond what was measured."""

import json

import pytest
import torch

from moe_core.errors import ConfigError
from moe_core.nn import experts
from moe_core.nn.experts import ExpertWeights
from moe_core.nn.tuning import NEUTRAL, TIE, Timing, Tuning, What

CPU = torch.device("cpu")


def timing(what: What, rows: float, elements: int = 1000, dtype: str = "fp32", **seconds: float) -> Timing:
    return Timing(what=what, dtype=dtype, elements=elements, rows=rows, seconds=seconds)


KNOWN = Tuning(
    source="probe",
    timings=(
        timing("bank", 16.0, grouped=4.0, sorted=2.0),  # not in order
        timing("bank", 1.0, grouped=1.0, sorted=3.0),
        timing("bank", 1.0, elements=100_000, padded=7.0),
        timing("linear", 1, linear=1.0),
        timing("linear", 256, linear=2.0),
        timing("linear", 1, dtype="bf16", linear=1.0),
        timing("linear", 256, dtype="bf16", linear=20.0),
    ),
)


@pytest.mark.parametrize(
    ("elements", "rows", "expected"),
    [
        (1000, 0.1, "grouped"),
        (1000, 3.9, "grouped"),  # 4 stands as far from 1 as from 16
        (1000, 4.1, "sorted"),
        (1000, 1e6, "sorted"),
        (9_000, 1.0, "grouped"),  # 10,000 stands as far from 1,000 as from 100,000
        (11_000, 1.0, "padded"),
        (10**12, 1.0, "sorted"),  # padded alone was measured near it, and is no candidate
    ],
)
def test_the_nearest_place_decides_as_ratios_go(elements: int, rows: float, expected: str) -> None:
    assert KNOWN.best("bank", "fp32", elements, rows) == expected


TEAMS = Tuning(
    timings=(
        timing("threads", 1, 100, **{"1": 1.0, "2": 2.0, "4": 3.0}),
        timing("threads", 100, 100, **{"1": 9.0, "2": 4.0, "4": 3.95}),
        timing("threads", 100, 10_000, **{"1": 9.0, "2": 5.0, "4": 3.0}),
    )
)


@pytest.mark.parametrize(
    ("elements", "rows", "expected"),
    [
        (1, 1, 1),
        (100, 9, 1),  # 1,000 multiplications stand as far from 100 as from 10,000
        (1_000, 1.1, 2),  # the larger team is hardly faster: the smaller one leaves a core to others
        (10_000, 10, 2),
        (10_000, 11, 4),
        (10_000, 400, 4),
        (10_000, 401, None),
    ],
)
def test_threads_follow_the_size_of_the_work(elements: int, rows: float, expected: int | None) -> None:
    assert TEAMS.threads("fp32", elements, rows) == expected
    assert TEAMS.threads("bf16", elements, rows) is None
    assert NEUTRAL.threads("fp32", elements, rows) is None


def test_well_above_the_largest_bank_only_kernels_that_choose_their_products_are_taken() -> None:
    points = (
        timing("bank", 1.0, padded=1.0, sorted=3.0, each=2.0),
        timing("bank", 16.0, padded=1.0, each=9.0),
    )
    known = Tuning(timings=points)
    assert known.best("bank", "fp32", 2000, 1.0) == "padded"
    assert known.best("bank", "fp32", 2001, 1.0) == "each"
    assert known.best("bank", "fp32", 10**9, 1e6) == "each"
    assert known.best("bank", "fp32", 1000, 31.0) == "padded"
    assert known.best("bank", "fp32", 1000, 33.0) == "each"  # so many rows are well above as well


def test_beyond_the_rows_of_a_size_the_size_below_decides() -> None:
    few, many = timing("expert", 1, elements=100, left=1.0), timing("expert", 64, elements=100, right=1.0)
    large = timing("expert", 2, elements=10_000, blocked=1.0)
    known = Tuning(timings=(few, many, large))
    assert known.best("expert", "fp32", 10_000, 1) == "blocked"
    assert known.best("expert", "fp32", 10_000, 64) == "right"
    assert known.best("expert", "fp32", 100, 1) == "left"


def test_what_was_not_measured_is_none() -> None:
    assert KNOWN.best("bank", "bf16", 1000, 1.0) is None
    assert KNOWN.seconds("expert", "fp32", 1000, 1.0) is None
    assert NEUTRAL.best("bank", "fp32", 1000, 1.0) is None
    assert not NEUTRAL.emulates("bf16")


def test_of_two_alike_the_one_named_first_stays() -> None:
    assert timing("bank", 1.0, sorted=1.0, grouped=TIE + 0.01).best == "sorted"
    assert timing("bank", 1.0, sorted=1.0, grouped=TIE - 0.01).best == "grouped"


def test_a_probe_that_came_no_further_than_few_rows_says_nothing_of_many() -> None:
    """bf16 that a device only converts is fast with one row: on a busy machine the probe ended there."""
    few = Tuning(timings=tuple(timing("linear", rows, dtype="bf16", linear=1.0) for rows in (1, 16)))
    assert few.seconds("linear", "bf16", 1000, 8) is not None
    assert few.seconds("linear", "bf16", 1000, 2048) is None


def test_seconds_are_linear_in_rows_and_in_proportion_beyond_and_to_the_weights() -> None:
    assert KNOWN.seconds("linear", "fp32", 1000, 0.5) == 1.0
    assert KNOWN.seconds("linear", "fp32", 1000, 128.5) == pytest.approx(1.5)
    assert KNOWN.seconds("linear", "fp32", 3000, 512) == pytest.approx(12.0)
    assert KNOWN.seconds("bank", "fp32", 1000, 16.0) == 2.0


def test_a_dtype_is_emulated_where_many_rows_take_longer_than_in_fp32() -> None:
    assert KNOWN.emulates("bf16")
    assert not KNOWN.emulates("fp32")
    fast = [t for t in KNOWN.timings if t.dtype == "fp32"] + [timing("linear", 256, dtype="bf16", linear=1.0)]
    assert not Tuning(timings=tuple(fast)).emulates("bf16")
    given_up = [t for t in KNOWN.timings if (t.dtype, t.rows) != ("bf16", 256)]
    assert Tuning(timings=tuple(given_up)).emulates("bf16")


def test_json_there_and_back_and_nonsense_is_refused() -> None:
    assert Tuning.parse_json(json.dumps(KNOWN.model_dump(mode="json"))) == KNOWN
    with pytest.raises(ConfigError):
        Tuning.parse_json('{"source": "hearsay"}')


def choice(tuning: Tuning, pairs: int, width: int = 64, gradients: bool = False) -> str:
    """What `auto` takes for eight experts of D 16 in fp32."""
    empty = torch.empty(8, 2 * width, 16, device="meta"), torch.empty(8, 16, width, device="meta")
    return experts.choose(CPU, torch.float32, pairs, ExpertWeights(*empty, tuning=tuning), gradients)


def test_auto_on_a_cpu_takes_what_was_measured_and_without_that_the_defaults() -> None:
    assert choice(KNOWN, 8) == "grouped"
    assert choice(KNOWN, 8 * 16) == "sorted"
    assert choice(KNOWN, 8, width=3_000) == "padded"
    assert choice(NEUTRAL, 8 * 16) == "grouped"  # tiny in fp32
    assert choice(NEUTRAL, 8 * 16, width=10_000) == "sorted"
    assert choice(KNOWN, 8 * 16, gradients=True) == "grouped"  # nothing measured with gradients


def test_grouped_is_not_taken_where_its_product_has_no_form_for_the_size() -> None:
    assert choice(KNOWN, 8, width=63) == "sorted"
