"""The sweep: quality against k, from one expert to all of them."""

import pandas as pd
import pytest

from moe_core.labs import topk_sweep
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.runs.context import RunContext
from moe_core.settings import Settings
from moe_core.specs import RunSpec

SPEC = RunSpec(lab="topk_sweep", experts=4, top_k=2, shared=1, batch=2, seq=32, device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_DATA_DIR", str(tmp_path_factory.mktemp("state")))
        return bundle.verify(topk_sweep.execute(SPEC, RunContext()))


@pytest.fixture(scope="module")
def overall(done: Bundle) -> pd.DataFrame:
    table = done.table("quality").to_pandas()
    return table[table.domain == "all"].pivot(index="top_k", columns="model", values="bits_per_byte")


def test_the_bundle_is_quality_alone(done: Bundle):
    assert done.tables == ("quality",)
    assert done.manifest.spec == SPEC.model_dump(mode="json")
    assert done.manifest.summary["decisions"] == 0


def test_every_k_has_every_model(overall: pd.DataFrame):
    assert list(overall.index) == [1, 2, 3, 4]
    assert set(overall.columns) == {"dense", "moe", "random", "oracle"}
    assert overall.notna().all().all()


def test_dense_does_not_depend_on_k_and_all_experts_reach_it(overall: pd.DataFrame):
    assert overall.dense.nunique() == 1
    for name in ("moe", "random", "oracle"):
        assert overall[name].loc[4] == pytest.approx(overall.dense.loc[4], rel=1e-4)


def test_more_experts_are_better(overall: pd.DataFrame):
    assert overall.moe.is_monotonic_decreasing
    assert overall.moe.loc[1] < overall.random.loc[1]


def test_the_summary_is_of_the_k_that_was_asked_for(done: Bundle, overall: pd.DataFrame):
    assert done.manifest.summary["bits_per_byte"] == pytest.approx(overall.loc[SPEC.top_k].to_dict())


def test_an_odd_k_and_an_odd_number_of_experts_are_on_the_ladder():
    assert topk_sweep.ladder(RunSpec(experts=20, top_k=5)) == [1, 2, 3, 4, 5, 6, 8, 12, 16, 20]


@pytest.mark.parametrize(("batch", "seq"), [(8, 256), (256, 1024), (1, 1024), (256, 16)])
def test_the_sweep_reads_few_tokens_and_says_so(batch: int, seq: int):
    cut = topk_sweep._cut(RunSpec(batch=batch, seq=seq))
    assert cut.batch * cut.seq <= topk_sweep.TOKENS
    assert cut.seq == min(seq, 256 if batch == 8 else max(128, topk_sweep.TOKENS // batch))


def test_one_expert_can_be_swept(settings: Settings):
    spec = SPEC.model_copy(update={"experts": 1, "top_k": 1, "shared": 0})
    assert bundle.verify(topk_sweep.execute(spec, RunContext())).manifest.summary["tokens"] == 64
