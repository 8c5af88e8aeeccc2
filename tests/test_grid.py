"""The grid: what is on it, what is nearest, and what a mixture is worth in dense neurons."""

import pytest
import torch

from moe_core import grid
from moe_core.grid import LADDER, Member
from moe_core.nn.model import Decoder
from moe_core.perf.params import count
from tests.shelf import ship


def test_every_mixture_that_makes_sense_is_on_it():
    members = grid.mixtures()
    assert len(members) == len(set(members)) == 34
    assert {m.experts for m in members} == {4, 8, 16, 32, 64}
    assert {m.top_k for m in members} == {1, 2, 4, 8}
    assert all(m.top_k < m.experts for m in members)
    assert sorted(grid.in_order_of_use()) == sorted((*members, *grid.ladder()))


def test_the_ladder_holds_the_twins_of_every_mixture():
    for member in grid.mixtures():
        total, active = grid.twins(member)
        if not member.shared:
            assert (total.width, active.width) == (member.total, member.active)
        assert 0.7 < total.width / member.total < 1.42
        assert 0.7 < active.width / member.active < 1.42


@pytest.mark.parametrize("member", [Member(16, 4, 1), Member(64, 8, 0), Member(0, 0, 0, 1024)])
def test_an_architecture_has_the_neurons_of_its_member(member: Member):
    with torch.device("meta"):
        built = Decoder(grid.architecture(member))
    parameters = sum(p.numel() for p in built.parameters())
    assert parameters == count(grid.architecture(member)).total
    dense = count(grid.architecture(Member(0, 0, 0, 1))).total
    router = 3 * 96 * member.experts
    assert parameters == dense + (member.total - 1) * 3 * 96 * 3 + router


@pytest.mark.usefixtures("shelf")
def test_a_mixture_without_its_dense_models_is_not_offered():
    ship(Member(16, 4, 0), 2.0)
    assert grid.shipped() == ()
    assert grid.nearest((16, 4, 0)) is None
    for width in (64, 256):
        ship(Member(0, 0, 0, width), 2.1)
    assert grid.shipped() == (Member(16, 4, 0),)
    assert grid.nearest((128, 8, 1)) == Member(16, 4, 0)


@pytest.mark.usefixtures("shelf")
def test_the_nearest_keeps_the_share_of_active_experts():
    for width in LADDER:
        ship(Member(0, 0, 0, width), 2.0)
    for member in grid.mixtures():
        ship(member, 2.0)
    nearest = {
        bank: grid.nearest(bank) for bank in [(128, 8, 0), (256, 8, 1), (8, 2, 0), (60, 4, 4), (16, 4, 1)]
    }
    assert nearest == {
        (128, 8, 0): Member(64, 4, 0),
        (256, 8, 1): Member(64, 2, 1),
        (8, 2, 0): Member(8, 2, 0),
        (60, 4, 4): Member(64, 4, 1),
        (16, 4, 1): Member(16, 4, 1),
    }
    assert {bank: grid.nearest(bank) for bank in nearest} == nearest


@pytest.mark.usefixtures("shelf")
def test_a_dense_model_as_wide_lies_between_its_rungs_or_is_not_known():
    for width, bits in ((64, 2.4), (256, 2.0)):
        ship(Member(0, 0, 0, width), bits)
    assert grid.dense_bits(64) == 2.4
    assert grid.dense_bits(128) == pytest.approx(2.2)  # half way in doublings
    assert grid.dense_bits(264) == 2.0  # beyond, and nearly as wide
    assert grid.dense_bits(512) is None
    assert grid.dense_bits(32) is None


@pytest.mark.usefixtures("shelf")
def test_the_dense_equivalent_lies_between_its_rungs():
    for step, width in enumerate(LADDER):
        ship(Member(0, 0, 0, width), 3.0 - 0.1 * step)
    for member, bits in ((Member(8, 2, 0), 2.75), (Member(4, 1, 0), 3.3), (Member(64, 8, 0), 2.0)):
        ship(member, bits)
    assert grid.dense_equivalent(Member(8, 2, 0)) == pytest.approx(LADDER[2] * 2**0.5)
    assert grid.dense_equivalent(Member(4, 1, 0)) is None  # worse than the narrowest
    assert grid.dense_equivalent(Member(64, 8, 0)) is None  # better than the widest
    assert grid.dense_equivalent(Member(16, 1, 0)) is None  # not trained


def test_what_is_shipped_says_how_good_it_is():
    for member, score in grid.scores().items():
        assert 1.5 < score.long < score.short + 0.05 < 3.5, member.name
