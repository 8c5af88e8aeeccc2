"""The trace that ships: its figures are those of what was published, it is small, and says whose it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_core.perf import distinct
from moe_core.runs import bundle, facts
from moe_core.settings import REFERENCE, ROOT

PATH = REFERENCE / "deepseek-v2-lite"
EXPERTS, TOP_K = 64, 6


@pytest.fixture(scope="module")
def found() -> bundle.Bundle:
    return bundle.verify(PATH)


@pytest.fixture(scope="module")
def load(found: bundle.Bundle) -> pd.DataFrame:
    """Pairs by domain, layer (rows) and expert (columns)."""
    counts = found.table("counts").to_pandas()
    return counts.pivot_table(index=["domain", "layer"], columns="expert", values="pairs", fill_value=0)


def test_nothing_is_left_out(found: bundle.Bundle) -> None:
    facts.check(found.manifest)
    summary = found.manifest.summary
    assert (summary["decisions"], summary["tokens"], summary["sequences"]) == (5_191_524, 33_279, 213)
    assert summary["layers"] == list(range(1, 27))
    tokens = found.table("tokens").to_pandas()
    sequences = tokens.groupby("domain", sort=False)["sequence"].nunique()
    assert sequences.to_dict() == {"intent": 127, "summary": 13, "law": 33, "translation": 40}
    assert found.table("banks").to_pandas()[
        ["experts", "zero", "shared", "top_k"]
    ].drop_duplicates().to_numpy().tolist() == [[64, 0, 2, 6]]


@pytest.mark.parametrize(
    ("domain", "cv", "hottest"),
    [("intent", 0.79, 3.8), ("summary", 0.74, 4.3), ("law", 0.61, 3.5), ("translation", 1.17, 5.6)],
)
def test_the_load_is_as_published(load: pd.DataFrame, domain: str, cv: float, hottest: float) -> None:
    """Coefficient of variation, and the hottest expert over the mean: means over the layers."""
    ratio_LE = load.loc[domain].to_numpy()
    ratio_LE = ratio_LE / ratio_LE.mean(1, keepdims=True)
    assert ratio_LE.std(1).mean() == pytest.approx(cv, abs=0.006)
    assert ratio_LE.max(1).mean() == pytest.approx(hottest, abs=0.06)
    assert ratio_LE.min() > 0
    assert ratio_LE.max() < 7.75


def test_random_batches_touch_what_the_popularity_formula_says(found: bundle.Bundle) -> None:
    """Within 0.3 %, mean over domains and layers; the uniform formula says a tenth to a quarter more."""
    domain_T = found.table("tokens")["domain"].to_numpy()
    generator = np.random.default_rng(0)
    off, over = [], []
    for group in found.groups("decisions"):
        ids_TK = group["expert"].to_numpy().reshape(-1, TOP_K)
        for domain in np.unique(domain_T):
            mine_TK = ids_TK[domain_T == domain]
            load = np.bincount(mine_TK.ravel(), minlength=EXPERTS).tolist()
            for tokens in (4, 32):
                drawn = generator.integers(len(mine_TK), size=(3_000, tokens))
                hit = np.zeros((len(drawn), EXPERTS), dtype=bool)
                np.put_along_axis(hit, mine_TK[drawn].reshape(len(drawn), -1), True, axis=1)
                touched = hit.sum(1).mean()
                off.append(touched / distinct.popular(load, TOP_K, tokens) - 1)
                over.append(distinct.uniform(EXPERTS, TOP_K, tokens) / touched - 1)
    assert abs(np.mean(off)) < 0.003
    assert 0.02 < np.mean(over) < 0.28


def test_it_is_small_and_says_whose_it_is(found: bundle.Bundle) -> None:
    assert sum(path.stat().st_size for path in PATH.iterdir()) < 8e6
    source = found.manifest.summary["source"]
    assert "MIT" in source
    assert "arXiv:2407.01906" in source
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert "deepseek-ai/ESFT (MIT, Copyright (c) 2023 DeepSeek" in notice
    assert (ROOT / "data" / "traces" / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
