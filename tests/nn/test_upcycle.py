"""Upcycling: what is equal to the dense model at the start, what is not, and by how much."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.nn.model import Decoder
from moe_core.nn.observe import RoutingLog
from moe_core.nn.upcycle import RAW, copied, partly_drawn, sharded, virtual_groups
from moe_core.specs import Router
from tests.nn.small import decoder

GATED, UNGATED = (decoder(seed=1, gated=gated).double() for gated in (True, False))
IDS = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(0))
X_TD = torch.randn(40, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def error(mixture: Decoder, dense: Decoder) -> float:
    """Of the first feed-forward layer, relative."""
    with torch.no_grad():
        right_TD = dense.feed_forwards[0](X_TD)
        return float((mixture.feed_forwards[0](X_TD) - right_TD).norm() / right_TD.norm())


@settings(max_examples=25, deadline=None)
@given(experts=st.integers(1, 9), k=st.integers(1, 9), seed=st.integers(0, 99), gated=st.booleans())
def test_copies_are_the_dense_model(experts, k, seed, gated):
    dense, k = (GATED if gated else UNGATED), min(k, experts)
    for router in (Router(), Router(mask_first=True), Router(kind="softmax_selected")):
        mixture = copied(dense, experts, k, seed, router)
        assert error(mixture, dense) < 1e-12
    with torch.no_grad():
        torch.testing.assert_close(mixture(IDS), dense(IDS), rtol=1e-10, atol=1e-12)


def test_copies_are_the_dense_model_to_a_millionth_in_single_precision():
    dense = decoder(seed=3)
    with torch.no_grad():
        right = dense(IDS)
        assert float((copied(dense, 8, 2)(IDS) - right).norm() / right.norm()) < 1e-6


@settings(max_examples=25, deadline=None)
@given(experts=st.integers(2, 9), k=st.integers(1, 9), seed=st.integers(0, 99))
def test_raw_weights_scale_the_output_by_the_mass_of_the_top_k(experts, k, seed):
    mixture = copied(GATED, experts, min(k, experts), seed, RAW)
    log = RoutingLog()
    with torch.no_grad():
        moe, right_TD = mixture.feed_forwards[0], GATED.feed_forwards[0](X_TD)
        y_TD = moe(X_TD, observer=log)
    (_, routing), *_ = log.seen
    mass_T = torch.zeros(len(X_TD), dtype=torch.float64).index_add(
        0, routing.token_ids_N, routing.weights_N.double()
    )
    torch.testing.assert_close(y_TD, right_TD * mass_T[:, None], rtol=1e-10, atol=1e-14)
    missing = float(((1 - mass_T)[:, None] * right_TD).norm() / right_TD.norm())
    assert error(mixture, GATED) == pytest.approx(missing, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dense", [GATED, UNGATED], ids=["gated", "ungated"])
@pytest.mark.parametrize("shards", [1, 2, 3, 4, 8])
def test_shards_are_the_dense_model_only_all_together(dense, shards):
    assert error(sharded(dense, shards, shards), dense) < 1e-12
    for k in range(1, shards):
        assert error(sharded(dense, shards, k), dense) > 0.2


@settings(max_examples=25, deadline=None)
@given(
    copies=st.integers(1, 6),
    shards=st.sampled_from([1, 2, 3, 4, 6, 8]),
    groups=st.integers(1, 6),
    seed=st.integers(0, 99),
    gated=st.booleans(),
)
def test_virtual_groups_are_the_dense_model(copies, shards, groups, seed, gated):
    dense, k = (GATED if gated else UNGATED), min(groups, copies) * shards
    assert error(virtual_groups(dense, copies, shards, k, seed), dense) < 1e-12
    unscaled = virtual_groups(dense, copies, shards, k, seed, scaled=False)
    assert error(unscaled, dense) == pytest.approx(1 - 1 / shards, abs=1e-12)


def test_a_group_of_virtual_experts_holds_every_shard_once_and_one_row_of_the_router():
    moe = virtual_groups(UNGATED, 3, 4, 4).feed_forwards[0]
    ffn = UNGATED.feed_forwards[0]
    for group in range(3):
        members = slice(4 * group, 4 * group + 4)
        torch.testing.assert_close(moe.gate_up_EGD[members].flatten(0, 1), ffn.gate_up_GD, rtol=0, atol=0)
        rows = moe.router.weight_ED[members]
        assert (rows == rows[:1]).all()
    assert len(moe.router.weight_ED.unique(dim=0)) == 3


def test_top_k_takes_whole_groups():
    log = RoutingLog()
    with torch.no_grad():
        virtual_groups(GATED, 3, 4, 8, seed=2)(IDS, observer=log)
    for _, routing in log.seen:
        groups_TK = (routing.expert_ids_N // 4).view(routing.tokens, 8).sort().values
        assert (groups_TK[:, :4] == groups_TK[:, :1]).all()
        assert (groups_TK[:, 4:] == groups_TK[:, 4:5]).all()


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 99), gated=st.booleans())
def test_that_share_of_the_neurons_is_drawn_anew(share, seed, gated):
    dense = GATED if gated else UNGATED
    ffn, moe = dense.feed_forwards[1], partly_drawn(dense, 3, 2, seed, share).feed_forwards[1]
    parts = 2 if gated else 1
    for expert in range(3):
        changed_DF = moe.down_EDF[expert] != ffn.down_DF
        changed_F = changed_DF.any(0)
        assert int(changed_F.sum()) == round(share * 48)
        assert (changed_DF == changed_F).all()  # whole columns, and the same neurons' rows
        rows_XFD = (moe.gate_up_EGD[expert] != ffn.gate_up_GD).unflatten(0, (parts, 48))
        assert (rows_XFD == changed_F[None, :, None]).all()


def test_what_is_drawn_anew_has_the_mean_and_deviation_of_what_it_replaces():
    dense = decoder(seed=5, ffn_width=4096).double()
    with torch.no_grad():
        for ffn in dense.feed_forwards:
            ffn.down_DF.mul_(3).add_(0.04)
    ffn, moe = dense.feed_forwards[0], partly_drawn(dense, 2, 1, seed=1).feed_forwards[0]
    changed_F = (moe.down_EDF[0] != ffn.down_DF).any(0)
    old, new = ffn.down_DF.detach()[:, changed_F], moe.down_EDF[0].detach()[:, changed_F]
    error_of_mean = float(old.std()) / old.numel() ** 0.5
    assert float((new.mean() - old.mean()).abs()) < 4 * error_of_mean
    assert float(new.std() / old.std()) == pytest.approx(1, abs=0.02)


def test_share_zero_is_copying_and_experts_differ_otherwise():
    for one, two in zip(
        partly_drawn(GATED, 3, 2, 7, 0.0).parameters(), copied(GATED, 3, 2, 7).parameters(), strict=True
    ):
        assert torch.equal(one, two)
    down_EDF = partly_drawn(GATED, 3, 2, 7).feed_forwards[0].down_EDF
    assert not torch.equal(down_EDF[0], down_EDF[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: copied(GATED, 4, 2, seed),
        lambda seed: virtual_groups(GATED, 2, 4, 4, seed),
        lambda seed: partly_drawn(GATED, 4, 2, seed),
    ],
    ids=["copied", "virtual_groups", "partly_drawn"],
)
def test_a_seed_says_everything(make):
    first, again, other = make(3), make(3), make(4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.feed_forwards[0].router.weight_ED, other.feed_forwards[0].router.weight_ED)


@pytest.mark.parametrize(
    "make",
    [
        lambda dense: copied(dense, 4, 2),
        lambda dense: sharded(dense, 4, 2),
        lambda dense: virtual_groups(dense, 2, 4, 4),
        lambda dense: partly_drawn(dense, 4, 2),
    ],
    ids=["copied", "sharded", "virtual_groups", "partly_drawn"],
)
def test_training_the_mixture_leaves_the_dense_model_alone(make):
    dense = decoder(seed=2)
    before = [parameter.clone() for parameter in dense.parameters()]
    mixture = make(dense)
    with torch.no_grad():
        for parameter in mixture.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, dense.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in mixture.parameters())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: sharded(GATED, 5, 2), r"shards \(5\): must divide the 48 neurons"),
        (lambda: virtual_groups(GATED, 2, 7, 7), r"shards \(7\): must divide the 48 neurons"),
        (lambda: virtual_groups(GATED, 2, 4, 6), r"top_k \(6\): must be a multiple of shards \(4\)"),
        (lambda: partly_drawn(GATED, 4, 2, share=1.5), r"share \(1.5\): must be from 0 to 1"),
    ],
)
def test_what_does_not_divide_is_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()
