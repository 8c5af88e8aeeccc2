"""Fits or not, on how many, how far: each answer is checked from both sides."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core import hardware, registry
from moe_core.errors import InfeasibleError
from moe_core.perf.fit import (
    Setting,
    devices,
    fit,
    largest_batch,
    last,
    longest_context,
    require,
    usable,
    ways,
)
from moe_core.perf.memory import Workload, model
from moe_core.perf.shard import Parallel
from moe_core.specs import Precision
from tests.perf.test_params import MIXTRAL, V3

H100, H200 = 80 * 10**9, 141 * 10**9
SETTING = Setting(model(MIXTRAL))


def test_mixtral_needs_two_h100_and_one_h200() -> None:
    assert not fit(SETTING, Workload(), H100).fits
    assert devices(SETTING, Workload(), H100).parallel == Parallel(tensor=2)
    assert devices(SETTING, Workload(), H200).parallel == Parallel()


def test_a_no_names_both_numbers() -> None:
    with pytest.raises(InfeasibleError, match=r"needs 94\.8 GB, the device has 80\.0 GB \(76\.0 GB usable\)"):
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
    for fewer in range(1, found.parallel.devices):
        for parallel in ways(fewer, sparse=True):
            with suppress(InfeasibleError):  # heads or layers do not divide so
                assert not fit(Setting(model(V3)), Workload(), H100, parallel).fits


def test_any_number_of_devices_may_do() -> None:
    """Llama-3.1-70B in bf16 with 8 x 8,192 tokens: two hold the weights and not the cache, three do."""
    arch = registry.get("Llama-3.1-70B").architecture
    assert arch is not None
    found = devices(Setting(model(arch)), Workload(batch=8, context=8192), 85_520_809_984)
    assert found.parallel == Parallel(pipeline=3)


def test_what_ran_fits() -> None:
    """Qwen2-72B in bf16 on two A100 of 80 GB, and Llama-3.1-8B with 36 sequences on 24 GB, were served."""
    large, small = (registry.get(name).architecture for name in ("Qwen2.5-72B", "Llama-3.1-8B"))
    assert large is not None
    assert small is not None
    assert (
        devices(Setting(model(large)), Workload(), hardware.get("A100 80GB").capacity).parallel.devices == 2
    )
    card = hardware.get("RTX 4090").capacity
    assert largest_batch(Setting(model(small)), Workload(context=1536), card) >= 36


def test_nothing_is_left_when_not_even_one_token_fits() -> None:
    with pytest.raises(InfeasibleError, match="needs"):
        longest_context(SETTING, Workload(), H100)
    with pytest.raises(InfeasibleError, match="even split over"):
        devices(SETTING, Workload(), 10**9, most=8)


def test_headroom_is_taken_off() -> None:
    assert usable(H100) == 76 * 10**9
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


def test_what_fits_nowhere_names_what_came_nearest() -> None:
    """However little a device has, and whatever number of them was split last."""
    with pytest.raises(InfeasibleError, match=r"needs 607 MB, .*\(950 B usable\), even split over 32$"):
        devices(Setting(registry.model(registry.get("Qwen3-8B"))), Workload(context=1025), 1000, staged=False)
