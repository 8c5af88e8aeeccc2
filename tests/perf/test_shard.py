"""Shards: what the fullest device holds."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core import registry
from moe_core.errors import InfeasibleError
from moe_core.perf import twins
from moe_core.perf.memory import Workload, footprint, model
from moe_core.perf.shard import Parallel, shard, share
from moe_core.specs import GQA, Architecture, Precision
from tests.perf.test_params import MIXTRAL, V3

WHOLE = model(MIXTRAL)


def test_one_device_holds_everything() -> None:
    assert shard(WHOLE, Parallel()) == WHOLE
    assert shard(model(V3), Parallel()) == model(V3)


@given(st.sampled_from([1, 2, 4, 8]))
def test_up_to_the_kv_heads_tensor_parallel_is_an_even_split(ways: int) -> None:
    held, whole = shard(WHOLE, Parallel(tensor=ways)).parameters.breakdown, WHOLE.parameters.breakdown
    for name in ("attention", "experts", "embedding", "head"):
        assert getattr(held, name) * ways == getattr(whole, name)
    assert (held.router, held.norms) == (whole.router, whole.norms)


def test_kv_heads_stop_at_one() -> None:
    eight, thirty_two = (shard(WHOLE, Parallel(tensor=n)) for n in (8, 32))
    assert eight.cache.token_bytes("bf16") == thirty_two.cache.token_bytes("bf16") == 131_072 // 8
    one_layer = 4096 * 128 + 2 * 4096 * 128 + 128 * 4096  # a query head, a whole KV head, its output
    assert thirty_two.parameters.breakdown.attention == 32 * one_layer


def test_a_latent_is_replicated() -> None:
    held, whole = shard(model(V3), Parallel(tensor=8)), model(V3)
    assert held.cache.token_bytes("bf16") == whole.cache.token_bytes("bf16") == 70_272
    down = 61 * (7168 * 576 + 512 + 7168 * 1536 + 1536)
    rest = whole.parameters.breakdown.attention - down
    assert held.parameters.breakdown.attention == down + rest // 8


def test_expert_parallel_keeps_experts_whole_and_splits_the_batch() -> None:
    parallel = Parallel(tensor=1, expert=8)
    held = shard(WHOLE, parallel).parameters.breakdown
    assert held.experts * 8 == WHOLE.parameters.breakdown.experts
    assert held.attention == WHOLE.parameters.breakdown.attention
    assert (parallel.devices, parallel.groups) == (8, 8)
    assert share(Workload(batch=20), parallel).batch == 3


def test_an_uneven_number_of_experts_fills_the_fullest_device() -> None:
    held = shard(WHOLE, Parallel(expert=3)).parameters.breakdown
    assert held.experts * 8 == WHOLE.parameters.breakdown.experts * 3


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]))
def test_devices_together_hold_at_least_the_model(tensor: int, expert: int) -> None:
    parallel = Parallel(tensor=tensor, expert=expert)
    need = footprint(shard(WHOLE, parallel), Workload())
    assert need.weights_total * parallel.devices >= footprint(WHOLE, Workload()).weights_total


@pytest.mark.parametrize(
    ("parallel", "sentence"),
    [
        (Parallel(tensor=3), "32 heads cannot be split 3 ways"),
        (Parallel(tensor=2, expert=3), "must divide each other"),
        (Parallel(expert=16), "8 experts cannot be split over 16 devices"),
    ],
)
def test_what_cannot_be_split_says_so(parallel: Parallel, sentence: str) -> None:
    with pytest.raises(InfeasibleError, match=sentence):
        shard(WHOLE, parallel)


@given(
    st.sampled_from([one.architecture for one in registry.records() if one.architecture]),
    st.sampled_from(["bf16", "fp8_block", "int4", "nvfp4", "mxfp4", "int4-g32+16"]),
    st.integers(1, 64),
    st.integers(1, 300),
    st.integers(1, 100),
)
def test_what_is_named_instead_of_a_refused_split_works(
    arch: Architecture, form: str, tensor: int, expert: int, stages: int
) -> None:
    parallel, formats = Parallel(tensor=tensor, expert=expert, pipeline=stages), Precision(default=form)
    try:
        shard(model(arch), parallel, formats)
    except InfeasibleError as error:
        named = str(error).split("; ")[-1]
        if named == "one device works":
            return
        first, *rest = re.sub(r" works|, which .*", "", named).split(", or ")
        for one in (first, *rest):
            ways = {name: int(many) for name, many in (part.split() for part in one.split(", "))}
            shard(model(arch), parallel.model_copy(update=ways), formats)


@pytest.mark.parametrize("rule", ["active", "total"])
def test_a_dense_twin_is_split_as_whoever_built_it_would_pad_it(rule: twins.Rule) -> None:
    arch = registry.get("DeepSeek-V3").architecture
    assert arch is not None
    dense = twins.twin(arch, rule).architecture
    assert dense.ffn_width % 128  # 18,513 of 128 x 128 blocks
    held = shard(model(dense), Parallel(tensor=8), dense.stored).parameters.breakdown
    assert held.ffn == -(-61 * 3 * 7168 * dense.ffn_width // 8)


def test_multi_query_replicates_its_only_head() -> None:
    mqa = MIXTRAL.model_copy(update={"attention": GQA(heads=32, kv_heads=1, head_dim=128)})
    held = shard(model(mqa), Parallel(tensor=4))
    assert held.cache == model(mqa).cache
    assert held.parameters.breakdown.attention == 32 * (2 * 4096 * 8 * 128 + 2 * 4096 * 128)


@pytest.mark.parametrize(
    ("name", "form", "parallel", "rule"),
    [
        (
            "Qwen3-235B-A22B",
            "fp8_block",
            Parallel(tensor=8),
            r"expert width 1,536 over 8 .* leaves 192, .*tensor 4 works, or expert 8",
        ),
        (
            "Qwen3-30B-A3B",
            "fp8_block",
            Parallel(tensor=4),
            r"expert width 768 over 4 .* leaves 192, .*tensor 2 works",
        ),
        ("Qwen3-30B-A3B", "int4", Parallel(tensor=8), r"leaves 96, not a multiple of the int4 group \(128\)"),
        ("Qwen2.5-7B", "bf16", Parallel(tensor=4), None),
        ("Qwen3-14B", "bf16", Parallel(tensor=5), r"8 KV heads cannot be split or copied evenly over 5"),
        ("gpt-oss-120b", "mxfp4", Parallel(tensor=8), None),
        ("Qwen3-235B-A22B", "fp8_block", Parallel(tensor=8, expert=8), None),
        ("Llama-3.1-8B", "bf16", Parallel(pipeline=33), r"32 layers cannot be dealt to 33 stages"),
    ],
)
def test_splits_that_engines_refuse_are_refused_with_the_rule(
    name: str, form: str, parallel: Parallel, rule: str | None
) -> None:
    arch = registry.get(name).architecture
    assert arch is not None
    if rule is None:
        shard(model(arch), parallel, Precision(default=form))
        return
    with pytest.raises(InfeasibleError, match=rule):
        shard(model(arch), parallel, Precision(default=form))


@pytest.mark.parametrize("name", ["Llama-3.1-70B", "DeepSeek-V3", "gpt-oss-120b", "Qwen3.5-397B-A17B"])
def test_stages_share_the_layers_and_hold_the_ends(name: str) -> None:
    arch = registry.get(name).architecture
    assert arch is not None
    whole = model(arch)
    for stages in (2, 3, 5, 8):
        held = shard(whole, Parallel(pipeline=stages))
        part = -(-arch.layers // stages) / arch.layers
        parts, all_of_it = held.parameters.breakdown, whole.parameters.breakdown
        assert parts.experts == pytest.approx(all_of_it.experts * part, abs=1)
        assert parts.attention == pytest.approx(all_of_it.attention * part, rel=1e-6)
        assert parts.embedding + parts.head == max(all_of_it.embedding, all_of_it.head)
        assert held.cache.kept(1000) == pytest.approx(whole.cache.kept(1000) * part)
        assert held.parameters.total * stages >= whole.parameters.total - min(
            all_of_it.embedding, all_of_it.head
        )
