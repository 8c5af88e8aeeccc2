"""The store answers of a trace as of any run; of a long one it holds a part, and all counts."""

from __future__ import annotations

import pandas as pd
import pytest

from moe_core.runs import bundle, traced
from moe_core.runs.traced import Told
from moe_core.settings import Settings
from moe_core.store import ingest, queries, routing, text
from moe_core.store.db import Store
from tests.traces import EXPERTS, LAYERS, TOKENS, TOLD, TOP_K, choices, trace


def stored(frame: pd.DataFrame, settings: Settings, store: Store, told: Told = TOLD) -> str:
    path = traced.take_in(trace(frame), told, settings.runs_dir)
    ingest.ingest_run(store, path.name)
    return path.name


def test_the_store_answers_of_a_trace_as_of_any_run(settings: Settings, store: Store):
    frame = choices()
    run_id = stored(frame, settings, store)
    load = routing.load(store, run_id, by_domain=True)
    expected = frame.groupby(["layer", "domain", "expert"]).size()
    for row in load.to_dict("records"):
        assert row["pairs"] == expected.get((row["layer"], row["domain"], row["expert"]), 0)
    assert set(routing.balance(store, run_id)["layer"]) == set(LAYERS)
    assert len(routing.distinct(store, run_id)) > 0
    assert text.text(store, run_id, 1)["token_id"].iloc[0] == 1_000
    run = queries.run(store, run_id)
    assert (run.spec["lab"], run.spec["title"], run.complete) == ("trace", "a trace", True)


def test_zero_experts_carry_no_load(settings: Settings, store: Store):
    """Ids from `experts` on compute nothing: they are counted, and no part of the load."""
    frame = choices()
    told = TOLD.model_copy(update={"experts": EXPERTS - 2, "zero": 2})
    run_id = stored(frame, settings, store, told)
    load = routing.load(store, run_id)
    computed = frame[frame["expert"] < EXPERTS - 2]
    assert load["expert"].max() == EXPERTS - 3
    assert load["pairs"].sum() == len(computed)
    counted = store.rows("SELECT sum(pairs) FROM counts")[0][0]
    assert counted == len(frame)
    distinct = routing.distinct(store, run_id, "consecutive")
    assert distinct["distinct"].max() <= EXPERTS - 2


def test_of_a_long_trace_the_store_holds_whole_sequences_and_all_counts(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ingest, "MOST", 300)
    monkeypatch.setattr(ingest, "EAGER", 300)
    frame = pd.concat(
        [choices(seed=n).assign(sequence=lambda one, n=n: one["sequence"] + 2 * n) for n in range(5)]
    )
    run_id = stored(frame, settings, store)
    assert store.rows("SELECT count(*) FROM decisions") == [(0,)]
    routing.flow(store, run_id)  # whoever looks at decisions one by one has them taken in
    routing.flow(store, run_id)
    ((kept,),) = store.rows("SELECT kept FROM runs")
    ((held, sequences),) = store.rows(
        "SELECT count(*), count(DISTINCT sequence) FROM decisions JOIN tokens USING (run, token)"
    )
    assert held <= 300 + TOKENS // 2 * TOP_K * len(LAYERS)  # whole sequences
    assert kept == sequences / 10 == held / len(frame)
    assert routing.load(store, run_id)["pairs"].sum() == len(frame)
    each = store.rows("SELECT count(*) FROM decisions JOIN tokens USING (run, token) GROUP BY sequence")
    assert {many for (many,) in each} == {TOKENS // 2 * TOP_K * len(LAYERS)}


def test_of_one_long_sequence_the_store_holds_spans(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ingest, "MOST", 100)
    monkeypatch.setattr(ingest, "EAGER", 100)
    monkeypatch.setattr(ingest, "SPAN", 5)
    stored(
        choices().assign(sequence=0, domain="all").assign(position=lambda one: one["token_id"] - 1_000),
        settings,
        store,
    )
    positions = [at for (at,) in store.rows("SELECT position FROM tokens ORDER BY position")]
    assert positions == [at for at in range(TOKENS) if at // 5 % 3 == 0]


def test_a_token_of_a_tokenizer_has_its_own_string(settings: Settings, store: Store):
    """Kinds are told by the first letter of the string, blanks left out."""
    frame = choices()
    words = {"token_id": [1_000, 1_001, 1_002, 1_003], "text": [" The", "42", "\n\n", "\u00dfe"]}
    path = traced.take_in(trace(frame), TOLD, settings.runs_dir)
    found = bundle.read(path)
    bundle.publish(settings.runs_dir, found.manifest, {"vocabulary": words}, earlier=found)
    ingest.ingest_run(store, path.name)
    shown = text.text(store, path.name, 1)
    assert shown["word"].iloc[:4].tolist() == words["text"]
    kinds = routing.lift(store, path.name, by="kind")
    assert set(kinds["name"]) == {"capital", "digit", "newline", "non-ASCII", "unknown"}
    expert = int(shown["expert"].iloc[0])
    found = text.snippets(store, path.name, 1, expert)
    assert any(" The" in part for part in found["text"])
