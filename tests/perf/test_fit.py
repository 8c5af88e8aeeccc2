"""Fits or not, on how many, how far: each answer is checked from both sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import InfeasibleError
from moe_core.perf.fit import Setting, devices, fit, largest_batch, last, longest_context, require, usable
from moe_core.perf.memory import Workload, model
from moe_core.perf.precision import Precision
from moe_core.perf.shard import Parallel
from tests.perf.test_params import MIXTRAL, V3

H100, H200 = 80 * 10**9, 141 * 10**9
SETTING = Setting(model(MIXTRAL))


def test_mixtral_needs_two_h100_and_one_h200() -> None:
    assert not fit(SETTING, Workload(), H100).fits
    assert devices(SETTING, Workload(), H100).parallel == Parallel(tensor=2)
    assert devices(SETTING, Workload(), H200).parallel == Parallel()


def test_a_no_names_both_numbers() -> None:
    with pytest.raises(InfeasibleError, match=r"needs 94\.8 GB, the device has 80\.0 GB \(72\.0 GB usable\)"):
        require(SETTING, Workload(), H100)
    assert require(SETTING, Workload(), H200).spare > 0


def test_quantised_it_fits_one() -> None:
    assert fit(Setting(model(MIXTRAL), Precision(default="int8")), Workload(), H100).fits


@pytest.mark.parametrize("field", ["context", "batch"])
@pytest.mark.parametrize("subject", [MIXTRAL, V3])
def test_the_limit_fits_and_one_more_does_not(field: str, subject: object) -> None:
    setting = Setting(model(subject))  # type: ignore[arg-type]
    found = devices(setting, Workload(), H200)
    limit = {"context": longest_context, "batch": largest_batch}[field](
        setting, Workload(), H200, found.parallel
    )
    for value, expected in ((limit, True), (limit + 1, False)):
        asked = Workload().model_copy(update={field: value})
        assert fit(setting, asked, H200, found.parallel).fits is expected


def test_fewer_devices_than_found_do_not_suffice() -> None:
    found = devices(Setting(model(V3)), Workload(), H100)
    fewer = found.parallel.devices // 2
    for parallel in (Parallel(tensor=fewer), Parallel(tensor=8, expert=fewer), Parallel(expert=fewer)):
        assert not fit(Setting(model(V3)), Workload(), H100, parallel).fits


def test_nothing_is_left_when_not_even_one_token_fits() -> None:
    with pytest.raises(InfeasibleError, match="needs"):
        longest_context(SETTING, Workload(), H100)
    with pytest.raises(InfeasibleError, match="even split over"):
        devices(SETTING, Workload(), 10**9, most=8)


def test_headroom_is_taken_off() -> None:
    assert usable(H100) == 72 * 10**9
    assert usable(H100, 0.0) == H100


@given(st.integers(1, 1000), st.integers(1, 1000), st.sampled_from([1, 2, 5]))
def test_the_last_that_fits_is_found_on_any_curve(limit: int, most: int, power: int) -> None:
    assert last(lambda value: value**power, limit**power, most) == min(limit, most)


def test_the_last_that_fits_is_found_on_steps_and_in_few_of_them() -> None:
    asked: list[int] = []

    def cost(value: int) -> int:
        asked.append(value)
        return 1000 * (value // 1000) + min(value, 70) * 3

    assert last(cost, 5_000_210, 10_000_000) == 5_000_999
    assert len(asked) <= 3 * 24  # every third step halves ten million
    asked.clear()
    assert last(lambda value: asked.append(value) or 7 * value, 7 * 12_345, 10_000_000) == 12_345  # type: ignore[func-returns-value]
    assert len(asked) < 6
