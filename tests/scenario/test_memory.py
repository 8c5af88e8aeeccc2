"""Capacity: the numbers of the memory page, against the ones worked out by hand."""

from __future__ import annotations

import pytest

from moe_core.errors import ConfigError, InfeasibleError
from moe_core.perf.precision import MIXES
from moe_core.scenario import devices as machines
from moe_core.scenario import memory
from moe_core.scenario.memory import Plan
from moe_core.scenario.spec import Scenario
from moe_core.specs import Precision

MIXTRAL = Scenario("Mixtral-8x7B", "H100", batch=1)


def test_mixtral_in_bf16_is_the_published_number() -> None:
    one = memory.case(MIXTRAL, Plan())
    assert one.footprint.weights_total == 93_405_585_408
    assert one.model.cache.token_bytes("bf16") == 131_072
    assert one.footprint.kv_cache == 4096 * 131_072


def test_components_may_each_have_their_format() -> None:
    plain = memory.case(MIXTRAL, Plan()).footprint
    mixed = memory.case(MIXTRAL, Plan(Precision(experts="mxfp4"))).footprint
    assert mixed.weights["experts"] == plain.weights["experts"] * 17 // 64  # 4.25 of 16 bits
    assert mixed.weights["attention"] == plain.weights["attention"]


def test_a_split_that_cannot_be_is_a_no() -> None:
    with pytest.raises(InfeasibleError, match="8 experts cannot be split over 16"):
        memory.case(MIXTRAL, Plan(expert=16))


def test_expert_parallel_gives_each_device_its_experts_and_copies_the_rest() -> None:
    whole, split = (memory.case(MIXTRAL, Plan(expert=n)).footprint for n in (1, 8))
    assert split.weights["experts"] * 8 == whole.weights["experts"]
    assert split.weights["attention"] == whole.weights["attention"]


def test_rivals_are_twins_and_the_model_before_the_edit() -> None:
    names = [one.label for one in memory.rivals(MIXTRAL._replace(experts=16), Plan())]
    assert names == ["Mixtral-8x7B as published", "dense twin, equal active", "dense twin, equal total"]
    assert memory.rivals(MIXTRAL, Plan(expert=8))  # dense models take tensor parallel instead


def test_every_device_says_how_many_it_takes() -> None:
    one = memory.case(MIXTRAL, Plan())
    every = memory.on_every(one, machines.devices(), {"H100": 3.0}).set_index("device")
    assert every.loc["H100", ["devices", "cost"]].tolist() == [2, 6.0]
    assert every.loc["B200", "devices"] == 1
    assert every["context"].dropna().min() >= MIXTRAL.context
    assert every.loc["L4", "layout"] == "pipeline 5"


def test_reach_goes_as_far_as_what_fits() -> None:
    far = memory.reach(memory.case(MIXTRAL, Plan()), 80e9)
    assert (far.fits, far.parallel.devices if far.parallel else 0) == (False, 2)
    many = MIXTRAL._replace(batch=16)
    alone = memory.reach(memory.case(many, Plan(MIXES["int4"])), 80e9)
    assert alone.fits
    assert alone.context is not None
    longer = memory.case(many._replace(prompt=alone.context - many.answer), Plan(MIXES["int4"]))
    assert longer.footprint.total <= alone.usable
    longer = memory.case(many._replace(prompt=alone.context + 1 - many.answer), Plan(MIXES["int4"]))
    assert longer.footprint.total > alone.usable


def test_no_context_is_longer_than_the_model_was_made_for() -> None:
    far = memory.reach(memory.case(MIXTRAL, Plan(MIXES["int4"])), 80e9)
    assert far.context == 32_768


def test_reach_of_what_fits_nowhere() -> None:
    far = memory.reach(memory.case(MIXTRAL._replace(architecture="DeepSeek-V3"), Plan()), 1e9)
    assert (far.fits, far.parallel, far.context, far.batch) == (False, None, None, None)


def test_offload_moves_bytes_and_costs_time() -> None:
    rows = memory.offloaded(memory.case(MIXTRAL, Plan()), link=64e9)
    assert (rows["device"] + rows["host"]).nunique() == 1
    assert rows["seconds"].is_monotonic_increasing
    last = rows.iloc[-1]
    assert last["crossing"] == pytest.approx(last["host"] * 2 / 8)  # one token visits two of eight
    assert last["seconds"] == pytest.approx(last["crossing"] / 64e9)


def test_a_dense_model_has_nothing_to_offload() -> None:
    from moe_core import registry

    dense = registry.get("Llama-3.1-8B").architecture
    one = memory.case(MIXTRAL._replace(own=dense), Plan())
    assert one.label == "Llama-3.1-8B as given"
    with pytest.raises(ConfigError, match="is dense"):
        memory.offloaded(one, 64e9)


def test_training_has_gradients_and_optimizer_for_every_expert() -> None:
    one = memory.case(MIXTRAL, Plan())
    held = memory.trained(one, "adamw", "fp32", True)
    assert held.optimizer == 12 * one.model.parameters.total
    assert held.gradients == 4 * one.model.parameters.total
    assert held.kv_cache == 0


@pytest.mark.parametrize("name", ["DeepSeek-V3", "gpt-oss-20b", "Qwen3-Next-80B-A3B", "Gemma-4-26B-A4B"])
def test_every_kind_of_attention_has_a_cache_that_grows(name: str) -> None:
    rows = memory.by_context(memory.case(MIXTRAL._replace(architecture=name), Plan()))
    own = rows[rows["kind"] == "as it is"]["bytes"]
    assert own.is_monotonic_increasing
    assert own.iloc[0] > 0
    assert set(rows["kind"]) >= {"as it is"}
