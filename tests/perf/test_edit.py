"""Edits: one knob, validated, and nothing else moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.perf.cache import cache
from moe_core.perf.edit import edit, split, with_kv
from moe_core.perf.params import count
from moe_core.specs import GQA, MLA
from tests.perf.test_params import MIXTRAL, V3


def test_every_knob_reaches_its_field() -> None:
    changes = {
        "experts": 16,
        "top_k": 3,
        "expert_width": 7168,
        "shared": 1,
        "layers": 30,
        "kv_heads": 4,
        "vocab": 99,
    }
    changed = edit(MIXTRAL, changes)
    assert changed.experts is not None
    assert isinstance(changed.attention, GQA)
    assert (changed.experts.count, changed.experts.top_k, changed.experts.width) == (16, 3, 7168)
    assert (changed.experts.shared, changed.layers, changed.attention.kv_heads, changed.vocab) == (
        1,
        30,
        4,
        99,
    )
    assert (
        edit(changed, {"experts": 8, "top_k": 2, "expert_width": 14336, "shared": 0}).experts
        == MIXTRAL.experts
    )
    assert edit(MIXTRAL, {}) == MIXTRAL


@given(st.sampled_from([1, 2, 4, 7, 8]))
def test_granularity_keeps_size_and_share(ways: int) -> None:
    before, after = count(MIXTRAL).breakdown, count(split(MIXTRAL, ways)).breakdown
    assert after.experts == before.experts
    assert after.router == ways * before.router
    assert count(split(MIXTRAL, ways)).idle == count(MIXTRAL).idle


def test_granularity_leaves_shared_experts_alone() -> None:
    assert count(split(V3, 4)).breakdown.shared == count(V3).breakdown.shared


def test_kinds_of_kv() -> None:
    tokens = {
        kind: cache(with_kv(MIXTRAL, kind)).token_bytes("bf16") for kind in ("mha", "gqa", "mqa", "mla")
    }
    assert tokens == {"mha": 524_288, "gqa": 131_072, "mqa": 16_384, "mla": 32 * 576 * 2}
    assert isinstance(with_kv(MIXTRAL, "mla").attention, MLA)
    back = with_kv(V3, "gqa", kv_heads=8).attention
    assert isinstance(back, GQA)
    assert (back.heads, back.kv_heads, back.head_dim) == (128, 8, 128)
    assert with_kv(V3, "mla") == V3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"top_k": 9}, r"top_k \(9\) must be at most experts \(8\)"),
        ({"experts": 0}, r"experts\.count \(0\)"),
        ({"kv_heads": 5}, r"heads \(32\) must be a multiple of kv_heads \(5\)"),
        ({"colour": 1}, "colour: is not something that can be edited"),
        ({"first_dense": 2}, r"ffn_width \(0\) must be at least 1"),
    ],
)
def test_a_bad_edit_names_field_value_and_rule(changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        edit(MIXTRAL, changes)


def test_a_dense_model_has_no_experts_to_edit_or_split() -> None:
    plain = MIXTRAL.model_copy(update={"experts": None, "ffn_width": 100})
    with pytest.raises(ConfigError, match="no experts"):
        edit(plain, {"experts": 4})
    with pytest.raises(ConfigError, match="no experts"):
        split(plain, 2)
    with pytest.raises(ConfigError, match=r"ways \(3\)"):
        split(MIXTRAL, 3)
