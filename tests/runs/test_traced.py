"""Traces become runs: all that was chosen is there, counted right, whatever order it comes in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from moe_core.errors import ConfigError
from moe_core.hf.traces import SCHEMA, Trace
from moe_core.hf.traces.shape import batch
from moe_core.runs import bundle, facts, heard, traced
from moe_core.runs.traced import Told
from tests import synthetic
from tests.traces import LAYERS, TOKENS, TOLD, TOP_K, choices, trace

TWICE = {"layer": [0, 0], "sequence": [0, 0], "position": [0, 0]}
KEYS = ["layer", "domain", "expert"]


def taken(frame: pd.DataFrame, runs_dir: Path, told: Told = TOLD, pieces: int = 1) -> bundle.Bundle:
    return bundle.verify(traced.take_in(trace(frame, pieces), told, runs_dir))


def test_what_was_chosen_is_what_the_bundle_says(tmp_path: Path):
    frame = choices()
    found = taken(frame, tmp_path)
    tokens = found.table("tokens").to_pandas()
    there = found.table("decisions").to_pandas().merge(tokens, on="token")
    names = ["layer", "sequence", "position", "slot", "expert", "weight", "token_id", "domain"]
    expected = frame[names].sort_values(names[:4], ignore_index=True)
    pd.testing.assert_frame_equal(there[names], expected, check_dtype=False)
    assert found.manifest.summary["decisions"] == len(frame)
    assert found.manifest.summary["tokens"] == TOKENS
    assert [len(group) for group in found.groups("decisions")] == [TOKENS * TOP_K] * len(LAYERS)


def test_counts_are_the_decisions_summed(tmp_path: Path):
    frame = choices()
    counts = taken(frame, tmp_path).table("counts").to_pandas()
    expected = frame.groupby(KEYS).agg(pairs=("slot", "size"), weight=("weight", "sum")).reset_index()
    got = counts.sort_values(KEYS, ignore_index=True)
    pd.testing.assert_frame_equal(got, expected, check_dtype=False, rtol=1e-6)


def test_order_and_pieces_do_not_matter_to_what_is_there(tmp_path: Path):
    frame = choices()
    shuffled = frame.sample(frac=1, random_state=1)
    first, second = (
        taken(one, tmp_path / str(n), pieces=p) for n, (one, p) in enumerate(((frame, 1), (shuffled, 7)))
    )
    for name in ("decisions", "tokens", "banks"):
        assert first.table(name).equals(second.table(name)), name
    counts = [one.table("counts").sort_by([(name, "ascending") for name in KEYS]) for one in (first, second)]
    assert counts[0].equals(counts[1])


def test_the_same_trace_is_the_same_run_and_another_is_not(tmp_path: Path):
    ids = {taken(choices(), tmp_path).manifest.run_id for _ in range(2)}
    assert len(ids) == 1
    assert taken(choices(seed=1), tmp_path).manifest.run_id not in ids
    other = TOLD.model_copy(update={"title": "another"})
    assert taken(choices(), tmp_path, other).manifest.run_id not in ids


def test_layers_may_skip_tokens_and_differ_in_what_they_take(tmp_path: Path):
    frame = choices()
    skips = (frame["layer"] == LAYERS[0]) & (frame["position"] == 0)
    fewer = (frame["layer"] == LAYERS[1]) & (frame["slot"] == TOP_K - 1)
    found = taken(frame[~skips & ~fewer], tmp_path)
    assert found.manifest.summary["tokens"] == TOKENS  # the other layer has them
    assert found.table("banks").to_pandas()["top_k"].tolist() == [TOP_K, TOP_K - 1]


def test_sequences_that_each_domain_counts_anew_are_told_apart(tmp_path: Path):
    frame = choices().assign(sequence=0)
    found = taken(frame, tmp_path)
    assert found.manifest.summary["sequences"] == 2
    assert found.table("requests")["request"].to_pylist() == ["code 0", "prose 0"]
    assert found.manifest.summary["tokens"] == TOKENS


def test_without_domains_weights_or_ids_there_are_none(tmp_path: Path):
    frame = choices().assign(domain=None, weight=np.nan, token_id=None)
    table = pa.Table.from_pandas(
        frame.drop(columns=["weight"]).assign(weight=None), schema=SCHEMA, preserve_index=False
    )
    found = bundle.verify(traced.take_in(Trace("test", (), iter(table.to_batches())), TOLD, tmp_path))
    assert found.manifest.summary["domains"] == [traced.UNNAMED]
    assert not found.manifest.summary["weights"]
    assert found.table("decisions")["weight"].null_count == len(frame)
    assert found.table("tokens")["token_id"].null_count == TOKENS
    assert found.table("counts")["weight"].null_count == found.table("counts").num_rows


def wrong(**values: object) -> Iterator[pa.RecordBatch]:
    given = {"layer": [0], "sequence": [0], "position": [0], "slot": [0], "expert": [0]} | values
    yield batch(**{name: np.array(value) for name, value in given.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"expert": [8]}, r"trace: names expert 8, the model has 8; are they physical ids\?"),
        ({"expert": [2**14]}, r"trace: expert \(16,384\) must be from 0 to 16,383"),
        ({"position": [-1]}, r"trace: position \(-1\) must be from 0 to 2,147,483,647"),
        ({"layer": [-3]}, r"trace: layer \(-3\) must be from 0 to 32,767"),
        (
            TWICE | {"slot": [0, 0]} | {"expert": [1, 2]},
            "layer 0, sequence 0, position 0: fills a slot twice",
        ),
        (
            TWICE | {"slot": [0, 1], "expert": [1, 1]},
            "has an expert twice",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, values: dict[str, list[int]], said: str
):
    with pytest.raises(ConfigError, match=said):
        traced.take_in(Trace("test", (), wrong(**values)), TOLD, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_trace_is_one_sentence(tmp_path: Path):
    with pytest.raises(ConfigError, match="has no choices"):
        traced.take_in(Trace("test", (), iter(())), TOLD, tmp_path)


def test_a_trace_without_its_name_is_heard_by_nobody(tmp_path: Path):
    path = traced.take_in(trace(choices()), TOLD, tmp_path / "runs")
    (one,) = heard.traces(tmp_path / "runs", tmp_path / "none")
    assert one.run.path == path
    synthetic.alter(path, lambda manifest: manifest["spec"].pop("title"))
    assert heard.traces(tmp_path / "runs", tmp_path / "none") == []
    with pytest.raises(ConfigError, match=r"spec\.title"):
        facts.check(bundle.read(path).manifest)
