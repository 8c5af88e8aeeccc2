"""One candidate on a spec's devices: layouts, room, Little's law, throughput at a target, money."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_core import hardware
from moe_core.decide import layout
from moe_core.decide.pair import candidate
from moe_core.decide.serving import Serving
from moe_core.decide.spec import DecideSpec
from moe_core.errors import InfeasibleError
from moe_core.perf import fit
from moe_core.perf.fit import WIDEST
from moe_core.perf.memory import Workload
from moe_core.perf.shard import Parallel


def serve(name: str = "Qwen3-14B", **values: Any) -> Serving:
    spec = DecideSpec.of({"mixture": "Qwen3-30B-A3B", "dense": "Qwen3-14B", **values})
    return Serving(candidate(name), spec)


def test_memory_is_what_the_memory_page_says() -> None:
    one = serve(workload={"batch": 8, "context": 4096})
    same = fit.fit(fit.Setting(one.candidate.model), Workload(batch=8), hardware.get("H100").capacity)
    assert one.need == same.footprint.total
    assert one.usable == same.usable
    assert one.gate == 1.0


def test_the_room_is_the_largest_batch_that_fits() -> None:
    one = serve(workload={"batch": 8, "context": 4096})
    most = fit.largest_batch(fit.Setting(one.candidate.model), Workload(), hardware.get("H100").capacity)
    assert most <= one.room < most + 1


def test_where_not_one_sequence_fits_the_room_is_a_fraction() -> None:
    one = serve("Qwen3-30B-A3B", hardware="RTX 4090", devices=1)
    assert one.room == 0.0
    assert not one.fits
    assert one.gate == 0.0


def test_traffic_keeps_as_many_in_flight_as_littles_law_says() -> None:
    one = serve(workload={"traffic": 2.0, "context": 4096, "output": 256})
    """A request is in flight while the prompts of its group are read and its own tokens are written."""
    assert (one.devices, len(one.layouts)) == (1, 1)
    held = one.batch * one.prompt + 256 * one.step_at(one.batch).seconds
    assert one.batch == pytest.approx(2.0 * held, rel=1e-6)


def test_more_traffic_takes_more_devices_prompts_included_in_whole_instances() -> None:
    rates = (1.0, 7.0, 30.0, 100.0)
    served = [serve(workload={"traffic": rate, "latency_ms": 30.0}) for rate in rates]
    fleets = [one.fleet for one in served]
    assert fleets == sorted(fleets)
    for one, rate in zip(served, rates, strict=True):
        assert one.fleet is not None
        assert one.devices == one.fleet
        assert one.carried >= rate
        assert one.fits
        assert one.batch <= one.room
        assert one.fleet >= rate * one.prompt  # reading alone takes as many
    equal = serve(devices=1, workload={"traffic": 100.0, "latency_ms": 30.0})
    assert equal.carried < 100.0
    assert equal.fleet == fleets[-1]


def test_each_candidate_has_the_fewest_devices_that_hold_it() -> None:
    for name, many in (("Qwen3-14B", 1), ("Mixtral-8x7B", 2), ("Llama-2-70B", 2), ("DeepSeek-V3", 10)):
        one = serve(name, workload={"batch": 8, "context": 4096})
        assert one.fits
        assert one.devices == many
        if many > 1:
            assert not serve(name, devices=many - 1, workload={"batch": 8, "context": 4096}).fits


def test_throughput_at_a_target_is_that_of_the_largest_batch_inside_it() -> None:
    one = serve(capacity_gb=1000, workload={"batch": 1, "context": 2048, "latency_ms": 30.0})
    many = one.throughput * 0.030
    assert one.step_at(many).seconds == pytest.approx(0.030, rel=1e-6)


def test_a_target_that_is_missed_alone_counts_less_and_less() -> None:
    rates = [serve(workload={"latency_ms": target}).throughput for target in (20.0, 5.0, 4.0, 1.0)]
    assert rates == sorted(rates, reverse=True)
    assert rates[3] < rates[1] / 100


def test_money_follows_the_price_and_the_devices() -> None:
    cheap, dear = (serve(price=price).cost for price in (1.0, 4.0))
    assert dear == pytest.approx(4 * cheap)


def test_replicas_serve_a_large_batch_cheaper_than_one_wide_group() -> None:
    """14 B on 8 devices: every device may hold it whole."""
    one = serve(devices=8, workload={"batch": 512, "context": 2048})
    wide = [layout for layout in one.layouts if layout.parallel == Parallel(tensor=8)]
    assert len(wide) == 1
    assert {layout.replicas for layout in one.layouts} == {1.0, 2.0, 4.0, 8.0}
    alone = wide[0].decode(512, 2048).seconds
    assert one.step.seconds <= alone


def test_a_slower_link_stretches_only_what_goes_over_it() -> None:
    fast, slow = (serve(devices=8, link_gbs=link, workload={"batch": 4}) for link in (900, 90))
    wide = next(i for i, one in enumerate(fast.layouts) if one.parallel == Parallel(tensor=8))
    readings = [one.terms.linked(one.layouts[wide].decode(4, 3000)) for one in (fast, slow)]
    assert readings[1].seconds > readings[0].seconds
    own = [reading.seconds * (1 - reading.network) for reading in readings]
    assert own[0] == pytest.approx(own[1])


def test_a_split_that_cannot_be_is_a_no() -> None:
    with pytest.raises(InfeasibleError, match="cannot be split"):
        serve("Qwen3-30B-A3B", devices=3, parallel={"tensor": 3})


asked_of = st.fixed_dictionaries(
    {
        "name": st.sampled_from(
            ("Qwen3-14B", "Qwen3-30B-A3B", "gpt-oss-120b", "Qwen3-Next-80B-A3B", "DeepSeek-V3")
        ),
        "hardware": st.sampled_from(("RTX 4090", "H100", "H200", "A10")),
        "batch": st.sampled_from((1, 3, 16, 100, 700, 4000)),
        "context": st.sampled_from((1024, 4096, 40_000, 131_072)),
        "precision": st.sampled_from(("stored", "bf16", "fp8")),
    }
)


@settings(max_examples=40, deadline=None)
@given(asked_of)
def test_the_fewest_devices_are_those_that_a_search_through_all_numbers_finds(ask: dict[str, Any]) -> None:
    spec = {name: ask[name] for name in ("hardware", "precision")}
    one = serve(
        ask["name"], **spec, workload={"batch": ask["batch"], "context": ask["context"], "output": 256}
    )
    asked = (one.work.batch, one.work.context, one.usable)

    def holds(devices: int) -> bool:
        try:
            return any(way.holds(*asked) for way in layout.layouts(one._way, devices))
        except InfeasibleError:
            return False

    naive = next((devices for devices in range(1, WIDEST + 1) if holds(devices)), None)
    assert layout.fewest(one._way, *asked) == naive


@settings(max_examples=20, deadline=None)
@given(asked_of, st.sampled_from((0.1, 2.0, 30.0)))
def test_the_fleet_is_the_best_of_all_instances(ask: dict[str, Any], traffic: float) -> None:
    spec = {name: ask[name] for name in ("hardware", "precision")}
    work = {"traffic": traffic, "context": ask["context"], "output": 256, "latency_ms": 50.0}
    one = serve(ask["name"], **spec, workload=work)
    groups = list(one._groups())
    able = [group for group in groups if group.keeps] or groups
    assert one.fleet == min((group.needed(traffic) for group in able), default=None)
