"""E10: batches are counted exactly, the shipped trace is what it says, and both formulas stand beside it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from moe_core.labs.training import distinct_experts as lab
from moe_core.labs.training.distinct_experts import TokenPool
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec, Training


def pool(chosen: list[list[int]], experts: int) -> TokenPool:
    hit_SE = np.zeros((len(chosen), experts), bool)
    for token, row in enumerate(chosen):
        hit_SE[token, row] = True
    return TokenPool("router", "text", 0, len(chosen[0]), hit_SE)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_DATA_DIR", str(tmp_path_factory.mktemp("state")))
        patch.setitem(lab.TEXT, "quick", 1024)
        patch.setattr(lab, "BATCHES", (32, 64))
        spec = RunSpec(lab="distinct_experts", training=Training())
        return bundle.verify(lab.execute(spec, RunContext()))


def test_experts_of_a_batch_are_counted_once():
    of = pool([[0, 1], [1, 2], [0, 1], [3, 4]], 6)
    assert lab.reached(of.hit_SE, np.array([[0, 2], [1, 3]])) == (2 + 4) / 2
    found = lab.counted(of, np.random.default_rng(0))
    assert found[lab.CONSECUTIVE] == [2.0, (3 + 4) / 2, 5.0]
    assert found[lab.SHUFFLED][0] == 2.0
    assert found[lab.SHUFFLED][-1] == 5.0  # the whole text, in whatever order
    pairs = [len(set(a) | set(b)) for a, b in itertools.combinations([{0, 1}, {1, 2}, {0, 1}, {3, 4}], 2)]
    assert found[lab.SHUFFLED][1] == pytest.approx(np.mean(pairs), abs=0.15)


def test_independent_tokens_reach_what_both_formulas_say():
    generator = np.random.default_rng(1)
    even = pool([sorted(generator.permutation(16)[:4].tolist()) for _ in range(4096)], 16)
    found = lab.counted(even, generator)
    assert found[lab.SHUFFLED] == pytest.approx(found[lab.UNIFORM], rel=0.01)
    assert found[lab.SHUFFLED] == pytest.approx(found[lab.POPULARITY], rel=0.01)
    assert found[lab.CONSECUTIVE] == pytest.approx(found[lab.UNIFORM], rel=0.02)


def test_the_shipped_trace_is_four_layers_of_four_domains():
    pools = lab.published()
    assert {(p.domain, p.layer) for p in pools} == set(
        itertools.product(("intent", "summary", "law", "translation"), (1, 9, 18, 26))
    )
    for of in pools:
        assert of.hit_SE.shape == (2048, 64)
        assert (of.hit_SE.sum(1) == 6).all()
    assert lab.TRACE.stat().st_size < 200_000


def test_the_published_router_keeps_to_popularity_and_below_uniform():
    for of in lab.published():
        found = lab.counted(of, np.random.default_rng(0))
        assert found[lab.SHUFFLED] == pytest.approx(found[lab.POPULARITY], rel=0.03), (of.domain, of.layer)
        for real in (lab.CONSECUTIVE, lab.SHUFFLED):
            above = np.array(found[real]) / np.array(found[lab.UNIFORM])
            assert above.max() <= 1.005, (of.domain, of.layer, real)
        assert np.mean(np.array(found[lab.CONSECUTIVE]) / np.array(found[lab.POPULARITY])) < 1


def test_the_criteria_hold_for_every_router(done):
    found = done.manifest.summary["findings"]
    assert found["popularity_error"]["value"] < 0.03
    assert found["uniform_excess"]["value"] < 1e-3
    for router in ("trained_mixture", "scale_model", "DeepSeek-V2-Lite"):
        assert found[f"real_below_uniform.{router}"]["value"] > 0


def test_one_token_reaches_top_k_experts(done):
    series = done.table("series").to_pandas()
    one = series[(series.metric == "distinct") & (series.x == 1)].set_index("arm").value
    for router in (lab.TRAINED, lab.SCALE, lab.TRACE_NAME):
        assert len({round(one[f"{router}, {kind}"], 9) for kind in (lab.CONSECUTIVE, lab.UNIFORM)}) == 1
