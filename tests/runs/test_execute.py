"""A run from question to bundle: everything recorded, nothing lost, the same again when asked again."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moe_core.errors import CancelledError, InfeasibleError
from moe_core.jobs.worker import Worker, load_labs
from moe_core.pressure import Busy
from moe_core.runs import admission, bundle, execute, models
from moe_core.runs.bundle import Bundle
from moe_core.runs.context import RunContext
from moe_core.settings import Settings
from moe_core.specs import RunSpec
from moe_core.store import ingest, routing
from moe_core.store.db import Store
from moe_core.version import question_id

SMALL = RunSpec(
    experts=8, top_k=2, shared=1, batch=2, seq=32, decode_steps=2, device="cpu", dtype="fp32",
    time_limit_s=3_600,
)  # fmt: skip
LAYERS = 8


def ask(spec: RunSpec, context: RunContext | None = None) -> Bundle:
    return bundle.verify(execute.execute(spec, context or RunContext()))


def small(**fields: object) -> RunSpec:
    return RunSpec.parse({**SMALL.model_dump(), **fields})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_DATA_DIR", str(tmp_path_factory.mktemp("state")))
        return ask(SMALL)


def frame(found: Bundle, name: str) -> pd.DataFrame:
    return found.table(name).to_pandas()


def bits(found: Bundle, model: str) -> float:
    table = frame(found, "quality")
    return float(table[(table.model == model) & (table.domain == "all")].bits_per_byte.item())


def test_the_bundle_is_complete_and_named_after_the_question(done: Bundle):
    assert set(done.tables) == {"decisions", "tokens", "probabilities", "timings", "memory", "quality"}
    assert done.manifest.question_id == question_id(SMALL)
    assert done.path.name == done.manifest.run_id
    assert RunSpec.parse_json(json.dumps(done.manifest.spec)) == SMALL


def test_decisions_are_conserved(done: Bundle):
    decisions = frame(done, "decisions")
    tokens = SMALL.batch * SMALL.seq
    assert len(decisions) == tokens * SMALL.top_k * LAYERS == done.manifest.summary["decisions"]
    assert (decisions.groupby(["layer", "token"]).expert.nunique() == SMALL.top_k).all()
    assert decisions.expert.between(0, SMALL.experts - 1).all()
    assert (decisions.weight == 1).all()  # carved


def test_tokens_and_probabilities_cover_the_same_domains(done: Bundle):
    tokens, probabilities = frame(done, "tokens"), frame(done, "probabilities")
    assert len(tokens) == SMALL.batch * SMALL.seq == done.manifest.summary["tokens"]
    assert set(tokens.domain) == set(probabilities.domain)
    sums = probabilities.groupby(["layer", "domain"]).probability.sum()
    np.testing.assert_allclose(sums, 1.0, rtol=1e-5)


def test_quality_is_ordered_as_it_must_be(done: Bundle):
    assert bits(done, "dense") < bits(done, "moe") < bits(done, "random")
    assert done.manifest.summary["bits_per_byte"]["moe"] == pytest.approx(bits(done, "moe"))


def test_the_summary_is_the_median_of_the_timings(done: Bundle):
    timings = frame(done, "timings")
    totals = timings[timings.component == "total"].groupby(["model", "phase"]).seconds.median()
    for phase in ("prefill", "decode"):
        for model in ("dense", "moe"):
            assert done.manifest.summary[f"{phase}_s"][model] == pytest.approx(totals[model, phase])


def test_memory_adds_up(done: Bundle):
    for model, rows in frame(done, "memory").groupby("model"):
        parts = rows[rows.component != "total"]
        total = rows[rows.component == "total"]
        assert parts.predicted_bytes.sum() == total.predicted_bytes.item()
        assert parts.measured_bytes.sum() == total.measured_bytes.item()
        assert done.manifest.summary["peak_bytes"][model] == total.measured_bytes.item()


def test_provenance_says_what_the_numbers_depend_on(done: Bundle):
    facts = done.manifest.provenance
    for name in (
        "device", "device_kind", "device_key", "threads", "dtype", "kernel", "torch", "python", "moescope",
        "code_version", "commit", "platform", "date", "seed", "text", "rotation", "process_peak",
    ):  # fmt: skip
        assert name in facts
    assert facts["dtype"] == "fp32"
    assert facts["rotation"]["moe"]["copies"] >= 1


def test_the_same_question_from_the_manifest_gives_the_same_answer(done: Bundle, settings: Settings):
    models._carved.cache_clear()
    again = ask(RunSpec.parse_json(json.dumps(done.manifest.spec)))
    assert again.manifest.run_id == done.manifest.run_id
    for name in ("decisions", "tokens", "probabilities", "quality"):
        assert again.table(name).equals(done.table(name)), name


def test_the_routing_can_be_seen_before_the_rest(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    parts: list[Bundle] = []
    stages: list[str] = []

    def published(run_id: str) -> None:
        parts.append(bundle.verify(settings.runs_dir / run_id))

    context = RunContext(published=published, report=lambda stage, share, left: stages.append(stage))
    monkeypatch.setattr(execute, "_measure", _measuring(stages, execute._measure))
    whole = ask(SMALL, context)
    (part,) = parts
    assert part.tables == ("decisions", "tokens", "probabilities")
    assert not part.manifest.complete
    assert whole.manifest.complete
    assert part.manifest.run_id == whole.manifest.run_id
    assert stages.index("record") < stages.index("measured from here") < stages.index("time")
    for name in part.tables:
        assert whole.table(name).num_rows == part.manifest.files[f"{name}.parquet"].rows
    store = Store.open(settings)
    try:
        ingest.refresh(store, reference=settings.data_dir / "none")
        assert len(routing.load(store, whole.manifest.run_id)) == SMALL.experts * LAYERS
    finally:
        store.close()


def _measuring(stages: list[str], measure: Callable[..., object]) -> Callable[..., object]:
    def wrapped(*arguments: object) -> object:
        stages.append("measured from here")
        return measure(*arguments)

    return wrapped


def test_a_whole_answer_is_not_replaced_by_a_part(settings: Settings):
    whole = ask(SMALL)

    def cancel() -> None:
        raise CancelledError("cancelled on request")

    with pytest.raises(CancelledError):
        execute.execute(SMALL, RunContext(check=cancel))
    assert bundle.verify(whole.path).manifest.complete


def test_a_run_that_ends_early_leaves_its_routing(settings: Settings):
    stopped: list[str] = []

    def check() -> None:
        if stopped:
            raise CancelledError("cancelled on request")

    with pytest.raises(CancelledError):
        execute.execute(SMALL, RunContext(check=check, published=stopped.append))
    (left,) = bundle.published(settings.runs_dir)
    assert not bundle.verify(left).manifest.complete
    assert ask(SMALL).manifest.complete  # and asked again it is whole


def test_references_are_left_out_where_there_is_no_time_for_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(execute, "QUALITY_ENDS", 0.0)
    found = ask(SMALL, RunContext(time_limit_s=10_000))
    assert set(frame(found, "quality").model) == {"dense", "moe"}
    assert set(found.manifest.summary["bits_per_byte"]) == {"dense", "moe"}
    assert found.manifest.complete


def test_how_busy_the_machine_was_is_kept(done: Bundle):
    busy = Busy.parse(done.manifest.provenance["busy"])
    assert busy.processor_s > 0
    assert 0 < busy.wall_s <= done.manifest.duration_s
    assert busy.others >= 0
    assert done.manifest.provenance["waiting"]


@pytest.mark.parametrize("shared", [0, 1])
def test_all_experts_together_are_the_dense_model(settings: Settings, shared: int):
    whole = ask(small(experts=4, top_k=4, shared=shared))
    for name in ("moe", "random", "oracle"):
        assert bits(whole, name) == pytest.approx(bits(whole, "dense"), rel=1e-4)


def test_the_trained_mixture_runs_with_another_k(settings: Settings):
    found = ask(small(model="trained", experts=16, top_k=3))
    assert set(frame(found, "quality").model) == {"dense", "moe"}
    assert bits(found, "moe") < 4
    weights = frame(found, "decisions").groupby(["layer", "token"]).weight.sum()
    np.testing.assert_allclose(weights, weights.iloc[0], rtol=1e-2)


@pytest.mark.parametrize("own", ["x", "\0\0", "🙂 שלום", "a longer text, " * 40])
def test_any_text_can_be_run(settings: Settings, own: str):
    tokens = frame(ask(small(text=own, batch=1, seq=16)), "tokens")
    assert set(tokens.domain) == {"yours"}
    assert bytes(tokens.byte) == (own.encode() * 16)[:16]


@pytest.mark.parametrize(("dtype", "seq"), [("bf16", 128), ("fp32", 1024)])
def test_bf16_and_the_longest_sequence_run_too(settings: Settings, dtype: str, seq: int):
    """Not both at once: a processor without bf16 takes minutes for that."""
    found = ask(small(dtype=dtype, batch=1, seq=seq, decode_steps=4))
    assert found.manifest.provenance["decode_from"] == min(seq, 1024 - 4)
    assert found.manifest.provenance["dtype"] == dtype


def test_a_run_that_cannot_fit_is_refused_before_anything_is_loaded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(admission, "free_memory", lambda device: 10_000_000)
    monkeypatch.setattr(models, "shipped", lambda *_: pytest.fail("loaded"))
    with pytest.raises(InfeasibleError, match=r"needs .* has 10\.0 MB free"):
        ask(SMALL)
    assert list(settings.runs_dir.iterdir()) == []


def test_more_decisions_than_the_installation_records_are_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MOE_MAX_DECISIONS", "1000")
    with pytest.raises(InfeasibleError, match=r"1,024 router decisions, MOE_MAX_DECISIONS allows 1,000"):
        ask(SMALL)


def stop_at(wanted: str) -> Callable[[str, float, float | None], None]:
    def report(stage: str, fraction: float, eta_s: float | None) -> None:
        if stage == wanted:
            raise CancelledError("cancelled on request")

    return report


@pytest.mark.parametrize("stage", ["load", "carve", "record", "quality", "memory", "time", "write"])
def test_a_cancelled_run_publishes_its_routing_at_most(settings: Settings, stage: str):
    with pytest.raises(CancelledError):
        ask(SMALL, RunContext(report=stop_at(stage)))
    left = [bundle.verify(path) for path in settings.runs_dir.iterdir()]
    assert len(left) == (stage not in ("load", "carve", "record"))
    assert all(not part.manifest.complete and "timings" not in part.tables for part in left)


def test_progress_only_grows(settings: Settings):
    seen: list[float] = []
    ask(SMALL, RunContext(report=lambda stage, fraction, eta_s: seen.append(fraction)))
    assert seen == sorted(seen)
    assert 0.9 < seen[-1] < 1.0


def test_warming_loads_what_a_run_needs(settings: Settings, tmp_path: Path):
    models.shipped.cache_clear()
    execute.warm()
    loaded = models.shipped.cache_info().currsize
    ask(small(dtype="auto", device="auto"))
    assert models.shipped.cache_info().currsize == loaded


@pytest.mark.parametrize("lab", ["bench", "topk_sweep"])
def test_a_worker_answers_and_the_store_takes_the_answer_in(settings: Settings, lab: str):
    job = Worker(settings, load=load_labs).run_one(small(lab=lab))
    assert (job.status, job.error) == ("done", None)
    store = Store.open(settings)
    try:
        assert job.run_id in ingest.refresh(store, reference=settings.data_dir / "none").added
        if lab == "bench":
            assert routing.load(store, job.run_id)["pairs"].sum() == 64 * SMALL.top_k * LAYERS
    finally:
        store.close()
