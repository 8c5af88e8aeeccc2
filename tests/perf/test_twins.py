"""Dense twins: each lands on its target, and only the feed-forward differs."""

import pytest
from hypothesis import given, settings

from moe_core.errors import ConfigError, InfeasibleError
from moe_core.perf.cache import cache
from moe_core.perf.params import count, ffn
from moe_core.perf.twins import RULES, Rule, dense, epoch, twin, twins
from moe_core.specs import Architecture
from tests.perf import specs
from tests.perf.test_params import MIXTRAL, V3


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("mixture", [MIXTRAL, V3])
def test_a_twin_lands_within_half_a_step_of_its_target(mixture: Architecture, rule: Rule) -> None:
    found = twin(mixture, rule)
    step = mixture.layers * ffn(mixture.hidden, 1, mixture.gated)
    assert abs(count(found.architecture).total - found.target) <= step / 2
    assert found.architecture.experts is None
    assert cache(found.architecture) == cache(mixture)
    assert found.caveats


def test_targets() -> None:
    targets = {found.rule: found.target for found in twins(MIXTRAL)}
    assert targets["active"] == 12_879_925_248
    assert targets["total"] == 46_702_792_704
    assert targets["sqrt"] == pytest.approx(24.5e9, rel=0.005)
    assert targets["epoch"] == pytest.approx(28.9e9, rel=0.005)
    assert twin(V3, "epoch").target == pytest.approx(217e9, rel=0.005)


def test_epoch_has_the_defects_we_state() -> None:
    assert epoch(1.0, 8, 8) == pytest.approx(1.48, abs=0.01)
    assert epoch(1.0, 64, 8) / epoch(1.0, 32, 4) == pytest.approx(2**0.19)


@settings(max_examples=60)
@given(specs.architectures())
def test_order_of_twins(arch: Architecture) -> None:
    if arch.experts is None:
        return
    found = {t.rule: count(t.architecture).total for t in twins(arch)}
    if {"active", "sqrt", "total"} <= set(found):
        assert found["active"] <= found["sqrt"] <= found["total"]


def test_what_has_no_twin_says_so() -> None:
    with pytest.raises(ConfigError, match="is dense"):
        twin(MIXTRAL.model_copy(update={"experts": None, "ffn_width": 100}), "active")
    with pytest.raises(InfeasibleError, match="alone have"):
        dense(MIXTRAL, 10**9, "tiny")
