"""The layer sweep, end to end at tiny sizes: every series, honest gaps, refusals with numbers."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from moe_core.errors import CancelledError, InfeasibleError
from moe_core.labs import layer_sweep, subjects
from moe_core.labs.subjects import Size
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.runs.context import RunContext
from moe_core.settings import Settings
from moe_core.specs import GQA, Architecture, Experts, RunSpec

SPEC = RunSpec(lab="layer_sweep", experts=8, top_k=2, shared=1, device="cpu", dtype="fp32")
REAL = RunSpec(lab="real_layers", device="cpu", dtype="fp32")
TINY = Architecture(
    name="Tiny", hidden=64, layers=2, vocab=256, attention=GQA(heads=2, kv_heads=2, head_dim=32),
    experts=Experts(count=8, top_k=2, width=32, shared=1),
)  # fmt: skip
LIMITS = {name: getattr(layer_sweep, name) for name in ("SHARE", "DEAR", "LONG_S")}
HUGE = TINY.model_copy(
    update={"name": "Huge", "hidden": 65536, "experts": Experts(count=1024, top_k=2, width=65536)}
)


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Few tokens, few calls; however slow the machine is, nothing counts as too dear, late or long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_sweep, "TOKENS", (1, 8, 64))
        patch.setattr(layer_sweep, "POINT_S", 0.001)
        for limit in LIMITS:
            patch.setattr(layer_sweep, limit, 1e9)
        patch.setattr(subjects, "TOKENS", 64)
        patch.setattr(subjects, "REAL", ("tiny", "huge"))
        patch.setattr(subjects, "_architecture", {"tiny": TINY, "huge": HUGE}.__getitem__)
        patch.setattr("moe_core.labs.bank.OVERFLOW", 0.01)
        yield


@pytest.fixture(scope="module")
def done(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_DATA_DIR", str(tmp_path_factory.mktemp("state")))
        return bundle.verify(layer_sweep.execute(SPEC, RunContext()))


@pytest.fixture(scope="module")
def rows(done: Bundle) -> pd.DataFrame:
    return done.table("layers").to_pandas()


def test_every_series_at_every_number_of_tokens(rows: pd.DataFrame):
    found = rows.groupby("series").tokens.unique().map(sorted).to_dict()
    assert found == {name: [1, 8, 64] for name in ("auto", "dense", "grouped", "loop", "same_work")}
    assert (rows.seconds > 0).all()
    assert rows.groupby(["series", "width", "tokens"]).repeat.count().min() >= 3


def test_dense_widths_hold_active_and_total(done: Bundle, rows: pd.DataFrame):
    (facts,) = done.manifest.summary["subjects"]
    widths = set(rows[rows.series == "dense"].width)
    assert {facts["active_width"], facts["total_width"]} <= widths
    assert facts["active_width"] == facts["top_k"] * facts["width"] + facts["shared_width"]
    assert max(widths) > facts["total_width"]


def test_experts_hit_are_counted_and_dense_networks_have_none(rows: pd.DataFrame):
    assert rows[rows.series == "dense"].hit.isna().all()
    auto = rows[rows.series == "auto"].groupby("tokens").hit.agg(["min", "max"])
    assert tuple(auto.loc[1]) == (2, 2)
    assert auto["max"].max() <= 8
    assert auto.loc[64, "min"] > 2


def test_the_manifest_says_where_and_what(done: Bundle):
    assert done.manifest.spec == SPEC.model_dump(mode="json")
    assert done.manifest.provenance["device_kind"] == "cpu"
    assert done.manifest.summary["skipped"] == {}
    assert set(done.manifest.stages) >= {"check", "load", "sweep", "write"}


def test_real_layers_name_what_does_not_fit(quick: None, settings: Settings):
    found = bundle.verify(layer_sweep.execute_real(REAL, RunContext()))
    summary = found.manifest.summary
    assert [one["label"] for one in summary["subjects"]] == ["Tiny"]
    assert "Huge needs" in summary["missing"]["huge"]
    assert summary["subjects"][0]["random"]
    assert set(found.table("layers").to_pandas().subject) == {"tiny"}


def test_nothing_that_fits_is_an_answer_with_numbers(
    quick: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(subjects, "REAL", ("huge",))
    with pytest.raises(InfeasibleError, match=r"Huge needs .*B .* the device can give .*B"):
        layer_sweep.execute_real(REAL, RunContext())


def test_cancelling_leaves_nothing_behind(quick: None, settings: Settings):
    def cancel() -> None:
        raise CancelledError("cancelled on request")

    with pytest.raises(CancelledError):
        layer_sweep.execute(SPEC, RunContext(check=cancel))
    assert bundle.published(settings.runs_dir) == []


class Slow:
    """A subject whose mixture takes a tenth of a second a token, by the clock it is timed with."""

    size = Size("slow", "Slow", 8, 4, 4, 2, 0, True, torch.device("cpu"), torch.float32, random=True)

    def __init__(self, clock: list[float]) -> None:
        self._clock = clock

    def mixture(self, kernel: str, tokens: int, turn: int) -> Callable[[], object]:
        return lambda: self._advance(0.1 * tokens)

    def dense(self, width: int, tokens: int) -> Callable[[], object]:
        return lambda: self._advance(1e-6)

    def hit(self, tokens: int, turn: int) -> float:
        return 2.0

    def _advance(self, seconds: float) -> None:
        self._clock[0] += seconds


def test_what_would_take_too_long_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    for name, limit in LIMITS.items():
        monkeypatch.setattr(layer_sweep, name, limit)
    monkeypatch.setattr("moe_core.device.perf_counter", lambda: clock[0])
    monkeypatch.setattr(layer_sweep, "time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.setattr(layer_sweep, "TOKENS", tuple(2**i for i in range(13)))
    found = layer_sweep.sweep(
        [lambda: Slow(clock)], REAL.model_copy(update={"time_limit_s": 20.0}), RunContext()
    )
    longest = max(row.tokens for row in found.rows if row.series == "auto")
    assert longest * 0.1 <= layer_sweep.DEAR * layer_sweep.SHARE * 20.0 < 2 * longest * 0.1
    assert found.skipped["slow, auto"].startswith(f"from {2 * longest} tokens on")
    assert max(row.tokens for row in found.rows if row.series == "dense") == max(layer_sweep.TOKENS)


def test_widths_double_from_half_the_active_to_the_total_one():
    size = Size.of(TINY, "tiny", torch.device("cpu"), torch.float32, random=True)
    assert size.widths == (48, 96, 192, 288)
