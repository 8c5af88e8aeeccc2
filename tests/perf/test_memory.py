"""Memory by component: weights exact, activations an upper estimate that behaves."""

from hypothesis import given, settings
from hypothesis import strategies as st

from moe_core.nn.model import Decoder
from moe_core.perf.memory import Workload, activations, footprint, inner, model, weights
from moe_core.specs import Architecture, Precision
from tests.perf import specs
from tests.perf.test_params import MIXTRAL, V3


@settings(max_examples=40, deadline=None)
@given(specs.architectures())
def test_predicted_weights_are_the_allocated_bytes(arch: Architecture) -> None:
    allocated = sum(p.nbytes for p in Decoder(arch).parameters())
    predicted = weights(model(arch).parameters.breakdown, Precision(default="fp32"))
    assert sum(predicted.values()) == allocated


def test_mixtral_at_4096_tokens() -> None:
    need = footprint(model(MIXTRAL), Workload(batch=1, context=4096))
    assert need.weights_total == 93_405_585_408
    assert need.kv_cache == 4096 * 131_072
    assert need.state == 0
    assert need.total == need.weights_total + need.kv_cache + need.activations
    assert sum(need.components().values()) == need.total


def test_a_mix_of_formats_is_a_sum_by_component() -> None:
    mixed = footprint(model(MIXTRAL), Workload(), Precision(experts="mxfp4"))
    plain = footprint(model(MIXTRAL), Workload())
    assert mixed.weights["experts"] == 45_097_156_608 * 17 // 32
    assert {k: v for k, v in mixed.weights.items() if k != "experts"} == {
        k: v for k, v in plain.weights.items() if k != "experts"
    }


def test_kv_format_and_batch() -> None:
    one = footprint(model(V3), Workload(batch=1, context=1000))
    many = footprint(model(V3), Workload(batch=8, context=1000), kv="fp8")
    assert many.kv_cache == 4 * one.kv_cache


@given(st.integers(1, 64), st.integers(1, 20_000))
def test_activations_grow_with_the_batch_and_stop_at_the_chunk(batch: int, context: int) -> None:
    shape = inner(MIXTRAL)
    now = activations(shape, Workload(batch=batch, context=context))
    assert now <= activations(shape, Workload(batch=batch + 1, context=context))
    assert now <= activations(shape, Workload(batch=batch, context=context + 1))
    assert now <= activations(shape, Workload(batch=batch, context=10**6))


def test_a_long_prompt_runs_in_chunks() -> None:
    assert Workload(batch=1, context=100_000).step_tokens == 8192
    assert Workload(batch=4, context=100).step_tokens == 400
    assert Workload(batch=10_000, context=100).step_tokens == 10_000  # one token of each at least


def test_the_experts_a_token_visits_decide_its_activations() -> None:
    assert MIXTRAL.experts is not None
    more = MIXTRAL.model_copy(update={"experts": MIXTRAL.experts.model_copy(update={"top_k": 4})})
    assert inner(more).feed_forward == 2 * inner(MIXTRAL).feed_forward
    assert inner(more).attention == inner(MIXTRAL).attention
