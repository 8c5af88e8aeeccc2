"""E8: the tasks are what they say, what is known is counted exactly, and a run is the same each time."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
import torch
from torch.nn import functional

from moe_core.labs.training import memory_reasoning as lab
from moe_core.labs.training.arms import TrainSize
from moe_core.nn.model import Decoder, initialise
from moe_core.perf import params
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec, Training

TINY = TrainSize(hidden=32, layers=1, width=8, batch=32, seq=3, steps=6, seeds=2, heldout=0, windows=2)


@pytest.fixture(scope="module")
def tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(lab.SIZES, "quick", TINY)
        patch.setitem(lab.FACTS, "quick", 16)
        patch.setattr(lab, "ASKED", 50)
        yield


@pytest.fixture(scope="module")
def run(tiny: None, tmp_path_factory: pytest.TempPathFactory):
    def execute(seed: int) -> Bundle:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MOE_DATA_DIR", str(tmp_path_factory.mktemp("state")))
            spec = RunSpec(lab="memory_reasoning", training=Training(), seed=seed)
            return bundle.verify(lab.execute(spec, RunContext()))

    return execute


@pytest.fixture(scope="module")
def done(run) -> Bundle:
    return run(3)


def test_a_book_has_every_key_once_and_is_the_same_by_seed():
    book = lab.book(4096, seed=1)
    keys = {tuple(key) for key in book[:, : lab.KEY].tolist()}
    assert len(keys) == 4096 == lab.SYMBOLS**lab.KEY
    assert torch.equal(book, lab.book(4096, seed=1))
    assert not torch.equal(book, lab.book(4096, seed=2))
    assert book.min() >= 32
    assert book[:, lab.KEY :].max() < 256
    assert book[:, : lab.KEY].max() < book[:, lab.KEY :].min()


@pytest.mark.parametrize("digits", lab.DIGITS.values())
def test_a_sum_is_the_sum_of_its_digits_and_no_digit(digits):
    found = lab.sums(200, digits, torch.Generator().manual_seed(0))
    assert torch.equal((found[:, :-1] - 48).sum(1), found[:, -1] - lab.FIRST_SUM)
    assert (found[:, :-1] - 48).min() >= 0
    assert found[:, :-1].max() < lab.FIRST_SUM <= found[:, -1].min()
    assert lab.FIRST_SUM + 9 * digits < 256


def test_asked_sums_are_of_another_seed_and_asked_facts_those_trained_on():
    every = lab.tasks("quick")
    assert torch.equal(every["facts"].asked(5), lab.book(lab.FACTS["quick"], 5))
    facts = {tuple(fact) for fact in every["facts"].asked(5).tolist()}
    assert {tuple(fact) for fact in next(every["facts"].draw(64, 5)).tolist()} <= facts
    asked = {tuple(one) for one in every["reasoning"].asked(0).tolist()}
    assert not asked & {tuple(one) for one in next(every["reasoning"].draw(4096, 0)).tolist()}


class Oracle(torch.nn.Module):
    """Gives every byte of its text the logit `sure` at its place: the answer is known, or nothing is."""

    def __init__(self, ids_BS: torch.Tensor, sure: float) -> None:
        super().__init__()
        self.ids_BS, self.sure = ids_BS, sure

    def forward(self, ids_BS: torch.Tensor) -> torch.Tensor:
        return functional.one_hot(self.ids_BS[:, 1:], 256) * self.sure


@pytest.mark.parametrize(("sure", "accuracy", "bits"), [(100.0, 1.0, 12.0), (0.0, 0.0, 2 * (6 - 8))])
def test_what_is_known_is_counted_exactly(sure, accuracy, bits):
    """Who knows all of 12 bits has 12; who thinks all 256 bytes equally likely pays 2 x 8 for 2 x 6."""
    task, book = lab.tasks("quick")["facts"], lab.book(100, 0)
    found = lab.known(Oracle(book, sure), book, task)  # type: ignore[arg-type]
    assert found.accuracy == accuracy
    assert found.bits == pytest.approx(bits, abs=1e-5)


def test_only_the_answer_is_learned():
    model, book = Decoder(lab.compared(TINY, "quick")[lab.TOTAL][1].arch), lab.book(8, 0)
    initialise(model, 0)
    other = book.clone()
    other[:, 1] = book[:, 1].flip(0)
    with torch.no_grad():
        loss = lab.answer_loss(lab.VALUE)(model, book, None)
        logits = model(book[:, :-1])[:, -lab.VALUE :]
        want = -logits.log_softmax(-1).gather(-1, book[:, -lab.VALUE :, None]).mean()
        assert float(loss) == pytest.approx(float(want), rel=1e-6)
        assert not torch.equal(loss, lab.answer_loss(lab.VALUE)(model, other, None))  # the key is read


@pytest.mark.parametrize("setting", ["quick", "full"])
def test_arms_have_equal_active_size_and_the_control_equal_total(setting):
    size = lab.SIZES[setting]
    arms = {experts: arm.arch for experts, arm in lab.compared(size, setting).values()}
    dense = params.count(arms[1])
    for experts, arch in arms.items():
        found = params.count(arch)
        active = found.active.incl_embeddings - found.breakdown.router
        assert active == (dense.total if experts else found.total), experts
    most = params.count(arms[lab.MOST])
    assert params.count(arms[0]).total == most.total - most.breakdown.router


def test_every_arm_has_its_series_and_findings_are_taken_from_them(done):
    series = done.table("series").to_pandas()
    known = series[(series.arm == "facts, mixtures") & (series.metric == "accuracy")]
    known = known[known.axis == "experts"]
    assert sorted(known.x.unique()) == [float(experts) for experts in lab.EXPERTS["quick"]]
    assert sorted(known.seed.unique()) == [3, 4]
    gain = known.pivot_table(index="seed", columns="x", values="value")
    finding = done.manifest.summary["findings"]["facts_gain"]
    assert finding["value"] == pytest.approx(float((gain[16.0] - gain[1.0]).mean()))
    assert finding["seeds"] == 2
    wanted = {
        f"{task}{end}"
        for task in ("facts", "reasoning")
        for end in ("_gain", ".dense_total", ".most_experts", ".one_expert", "_against_dense_total")
    }
    assert wanted <= set(done.manifest.summary["findings"])


def test_a_run_is_the_same_by_seed(run, done):
    pd.testing.assert_frame_equal(run(3).table("series").to_pandas(), done.table("series").to_pandas())
