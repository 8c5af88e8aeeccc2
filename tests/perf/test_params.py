"""Closed-form parameters: equal to what is allocated, and to what was published."""

import pytest
import torch
from hypothesis import given, settings

from moe_core.nn.attention import Attention
from moe_core.nn.layers import FFN, RMSNorm
from moe_core.nn.model import Decoder
from moe_core.nn.moe import MoE
from moe_core.perf import params
from moe_core.perf.params import Breakdown, count, summarise
from moe_core.specs import GQA, MLA, Architecture, DeltaNet, Experts, Extras, Indexer, Router
from tests.perf import specs

MIXTRAL = Architecture(
    name="mixtral",
    hidden=4096,
    layers=32,
    vocab=32000,
    attention=GQA(heads=32, kv_heads=8, head_dim=128),
    experts=Experts(count=8, top_k=2, width=14336),
)
V3 = Architecture(
    name="v3",
    hidden=7168,
    layers=61,
    vocab=129280,
    attention=MLA(heads=128, q_rank=1536, kv_rank=512, nope_dim=128, rope_dim=64, v_dim=128),
    ffn_width=18432,
    first_dense=3,
    experts=Experts(count=256, top_k=8, width=2048, shared=1, router=Router(kind="sigmoid")),
    extras=Extras(mtp_layers=1),
)


def numel(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@settings(max_examples=150, deadline=None)
@given(specs.architectures())
def test_total_and_components_are_those_of_the_decoder(arch: Architecture) -> None:
    with torch.device("meta"):
        model = Decoder(arch)
    counted = count(arch)
    assert counted.total == numel(model)
    parts = counted.breakdown
    modules = list(model.modules())
    assert parts.attention == sum(numel(m) for m in modules if isinstance(m, Attention))
    moe = [m for m in modules if isinstance(m, MoE)]
    assert parts.router == sum(numel(m.router) for m in moe)
    assert parts.experts == sum(m.gate_up_EGD.numel() + m.down_EDF.numel() for m in moe)
    assert parts.shared == sum(numel(m) for m in moe) - parts.router - parts.experts
    inside = {id(m) for mixture in moe for m in mixture.modules()}
    assert parts.ffn == sum(numel(m) for m in modules if isinstance(m, FFN) and id(m) not in inside)
    stream = [m for m in modules if isinstance(m, RMSNorm) and m.weight.numel() == arch.hidden]
    assert parts.norms <= sum(numel(m) for m in stream)


@settings(max_examples=100, deadline=None)
@given(specs.architectures(attention=specs.gqa() | specs.mla()))
def test_the_conventions_of_active_nest(arch: Architecture) -> None:
    counted = count(arch)
    active = counted.active
    assert counted.total == sum(counted.breakdown)
    assert counted.total >= active.incl_embeddings >= active.excl_input_embedding
    assert active.excl_input_embedding > active.excl_embedding_and_head >= 0
    assert active.excl_embedding_and_head == active.incl_embeddings - arch.vocab * arch.hidden * (
        2 - arch.tied
    )
    if arch.experts is None or arch.experts.top_k == arch.experts.count:
        assert active.incl_embeddings == counted.total


def test_mixtral_as_published() -> None:
    counted = count(MIXTRAL)
    assert counted.total == 46_702_792_704
    assert counted.active == (12_879_925_248, 12_748_853_248, 12_617_781_248)
    assert counted.method == "closed_form"
    assert counted.idle == 46_702_792_704 - 12_879_925_248


def test_deepseek_v3_as_published_with_its_mtp_layer_beside_the_total() -> None:
    counted = count(V3)
    assert counted.total == 671_026_404_352
    assert counted.mtp == pytest.approx(11.6e9, rel=0.005)
    without = V3.model_copy(update={"extras": Extras()})
    assert count(without) == counted._replace(mtp=0)


def test_a_tied_matrix_counts_once_and_stays_when_the_input_embedding_is_left_out() -> None:
    tied = count(MIXTRAL.model_copy(update={"tied": True}))
    assert tied.total == count(MIXTRAL).total - 32000 * 4096
    assert tied.breakdown.head == 0
    assert tied.active.excl_input_embedding == tied.active.incl_embeddings


@pytest.mark.parametrize(
    ("extras", "more"),
    [
        ({"sinks": True}, 32 * 32),
        ({"qk_norm_full": True}, 32 * (4096 + 1024)),
        ({"expert_bias": True}, 32 * 8 * (2 * 14336 + 4096)),
        ({"norms_per_layer": 4}, 32 * 2 * 4096),
        ({"norm_bias": True}, 65 * 4096),
        ({"positions": 2048}, 2048 * 4096),
        ({"trained_selection_bias": True}, 32 * 8),
        ({"attention_gate": True}, 32 * 4096 * 4096),
        ({"full_every": 2}, 0),
    ],
)
def test_each_extra_adds_what_it_says(extras: dict[str, object], more: int) -> None:
    changed = MIXTRAL.model_copy(update={"extras": Extras.parse(extras)})
    assert count(changed).total - count(MIXTRAL).total == more


def test_ffn_biases_are_those_of_linear_layers() -> None:
    assert params.ffn(16, 40, gated=True, bias=True) - params.ffn(16, 40, gated=True) == 2 * 40 + 16
    assert params.ffn(16, 40, gated=False, bias=True) == numel(
        torch.nn.Sequential(torch.nn.Linear(16, 40), torch.nn.Linear(40, 16))
    )


def test_an_indexer_shared_between_layers_counts_once_for_them() -> None:
    every = V3.model_copy(update={"extras": Extras(indexer=Indexer(heads=64, head_dim=128))})
    some = V3.model_copy(update={"extras": Extras(indexer=Indexer(heads=64, head_dim=128, layers=21))})
    plain = count(V3).total
    assert count(every).total == 671_877_929_216  # DeepSeek-V3.2, counted on the meta device
    assert (count(some).total - plain) * 61 == (count(every).total - plain) * 21


def test_linear_attention_takes_the_place_of_attention_in_its_layers() -> None:
    delta = DeltaNet(key_heads=2, value_heads=4, key_dim=8, value_dim=8)
    hybrid = MIXTRAL.model_copy(update={"extras": Extras(full_every=4, delta=delta)})
    assert count(hybrid).breakdown.attention * 4 == count(MIXTRAL).breakdown.attention
    assert count(hybrid).breakdown.mixer % 24 == 0


def test_active_experts_are_exact_integers_for_any_share() -> None:
    parts = Breakdown(embedding=10, head=10, experts=3 * 10**15 + 3)
    assert summarise(parts, (1, 3), "meta").active.incl_embeddings == 20 + 10**15 + 1
