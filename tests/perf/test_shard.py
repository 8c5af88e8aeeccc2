"""Shards: what the fullest device holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import InfeasibleError
from moe_core.perf.memory import Workload, footprint, model
from moe_core.perf.shard import Parallel, shard, share
from moe_core.specs import GQA
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


def test_multi_query_replicates_its_only_head() -> None:
    mqa = MIXTRAL.model_copy(update={"attention": GQA(heads=32, kv_heads=1, head_dim=128)})
    held = shard(model(mqa), Parallel(tensor=4))
    assert held.cache == model(mqa).cache
    assert held.parameters.breakdown.attention == 32 * (2 * 4096 * 8 * 128 + 2 * 4096 * 128)
