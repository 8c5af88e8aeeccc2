"""Timings: totals without spans beside components with them, weights in turn, models in turn."""

from collections import Counter

import pytest
import torch

from moe_core.errors import CancelledError
from moe_core.nn.model import Decoder, initialise
from moe_core.nn.observe import NULL
from moe_core.runs import timing
from moe_core.runs.timing import BUDGET_S, LEAST_REPEATS, Patience, Rotation, Teams, TimedWork
from moe_core.specs import GQA, Architecture, Experts

COMMON = {"hidden": 16, "layers": 2, "vocab": 64, "attention": GQA(heads=2, kv_heads=1, head_dim=8)}
REPEATS = 5


def build(**fields: object) -> Decoder:
    model = Decoder(Architecture(**COMMON, **fields)).eval()  # type: ignore[arg-type]
    initialise(model, 0)
    return model


@pytest.fixture(scope="module")
def pair() -> dict[str, Decoder]:
    experts = Experts(count=4, top_k=2, width=8, shared=1)
    return {"dense": build(ffn_width=32), "moe": build(experts=experts)}


@pytest.fixture(scope="module")
def work() -> TimedWork:
    ids_BS = torch.randint(0, 64, (2, 19), generator=torch.Generator().manual_seed(0))
    return TimedWork(ids_BS[:, :16], ids_BS[:, 16:], 16)


@pytest.fixture(scope="module")
def rows(pair: dict[str, Decoder], work: TimedWork) -> list[timing.TimingRow]:
    rotations = {name: Rotation(model, 2, work) for name, model in pair.items()}
    return timing.measure(rotations, work, Patience(REPEATS), lambda share: None)


def test_every_model_and_phase_has_one_row_a_repeat_for_each_component(rows: list[timing.TimingRow]):
    found = Counter((row.model, row.phase, row.component) for row in rows)
    assert set(found.values()) == {REPEATS}
    for phase in ("prefill", "decode"):
        parts = {model: {key[2] for key in found if key[:2] == (model, phase)} for model in ("dense", "moe")}
        assert parts["dense"] == {"total", "embed", "norm", "attention", "ffn", "head"}
        assert parts["moe"] >= {"total", "embed", "norm", "attention", "router", "shared", "head"}
        assert "ffn" not in parts["moe"]


def test_seconds_are_positive_and_parts_stay_near_the_total(rows: list[timing.TimingRow]):
    assert all(row.seconds > 0 for row in rows)
    for model in ("dense", "moe"):
        parts = sum(row.seconds for row in rows if row.model == model and row.component != "total")
        total = sum(row.seconds for row in rows if row.model == model and row.component == "total")
        assert parts < 10 * total  # a decode step that forgot to divide by its steps would show


def test_no_copy_runs_twice_before_all_have_run(pair: dict[str, Decoder], work: TimedWork):
    rotation = Rotation(pair["dense"], 3, work)
    turn = [rotation.next() for _ in range(6)]
    assert len({id(model) for model in turn[:3]}) == 3
    assert turn[:3] == turn[3:]
    assert turn[0] is pair["dense"]
    for name, weight in turn[1].named_parameters():
        torch.testing.assert_close(weight, pair["dense"].get_parameter(name))
        assert weight.data_ptr() != pair["dense"].get_parameter(name).data_ptr()


def test_decode_continues_the_prompt(pair: dict[str, Decoder], work: TimedWork):
    """After prefill and decode the cache holds what one pass over all tokens would have left."""
    rotation = Rotation(pair["moe"], 2, work)
    with torch.inference_mode():
        work.prefill(rotation, NULL)
        work.decode(rotation, NULL)
        whole = pair["moe"].new_cache(2, 19)
        pair["moe"](torch.cat((work.prompt_BS, work.answer_BK), 1), whole)
    assert rotation.cache.filled == 19
    for stepwise, at_once in zip(rotation.cache.layers, whole.layers, strict=True):
        torch.testing.assert_close(stepwise.keys_BGLP, at_once.keys_BGLP)


def test_each_kind_of_pass_has_its_own_number_of_threads(
    pair: dict[str, Decoder], work: TimedWork, monkeypatch: pytest.MonkeyPatch
):
    before, seen = torch.get_num_threads(), []
    rotation = Rotation(pair["dense"], 1, work)
    monkeypatch.setattr(rotation, "next", lambda: pair["dense"])
    hook = pair["dense"].register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    with torch.inference_mode():
        teams = work._replace(teams=Teams(prefill=3, decode=None))
        teams.prefill(rotation, NULL)
        teams.decode(rotation, NULL)
        work._replace(teams=Teams(None, 2)).decode(rotation, NULL)
    hook.remove()
    steps = work.answer_BK.shape[1]
    assert seen == [3] + steps * [before] + steps * [2]
    assert torch.get_num_threads() == before


def test_an_answer_that_would_pass_the_last_position_starts_inside_the_prompt(pair: dict[str, Decoder]):
    ids_BS = torch.zeros(1, 16, dtype=torch.int64)
    work = TimedWork(ids_BS, ids_BS[:, :4], start=12)
    assert work.positions == 16
    rotation = Rotation(pair["dense"], 1, work)
    with torch.inference_mode():
        work.prefill(rotation, NULL)
        work.decode(rotation, NULL)
    assert rotation.cache.filled == 16


def test_a_wish_to_stop_is_heard_between_passes(pair: dict[str, Decoder], work: TimedWork):
    def step(share: float) -> None:
        if share > 0.5:
            raise CancelledError("stop")

    with pytest.raises(CancelledError):
        timing.measure({"dense": Rotation(pair["dense"], 1, work)}, work, Patience(REPEATS), step)


@pytest.mark.parametrize(
    ("each_s", "left_s", "repeats"),
    [
        (0.01, 1000.0, 9),  # short: as many as were wished for
        (BUDGET_S / 5, 1000.0, 5),  # as many as the budget holds
        (BUDGET_S, 1000.0, LEAST_REPEATS),  # long: at least so many
        (40.0, 100.0, 2),  # a third would end after the limit
        (90.0, 60.0, 1),  # one measurement is still an answer
    ],
)
def test_repeats_follow_the_time_there_is(each_s: float, left_s: float, repeats: int):
    spent, done = 0.0, 0
    patience = Patience(9, lambda: left_s - spent)
    while not patience.enough(done, spent):
        done, spent = done + 1, spent + each_s
    assert done == repeats


@pytest.mark.parametrize(("long_s", "prompts"), [(0.0, 1), (float("inf"), 2)])
def test_a_long_prompt_is_watched_and_timed_at_once(
    pair: dict[str, Decoder], work: TimedWork, monkeypatch: pytest.MonkeyPatch, long_s: float, prompts: int
):
    monkeypatch.setattr(timing, "LONG_S", long_s)
    monkeypatch.setattr(timing, "WARM_UP_S", 0.0)
    rotation, passes = Rotation(pair["moe"], 1, work), []
    monkeypatch.setattr(rotation, "next", lambda: passes.append(1) or pair["moe"])
    rows = timing.measure({"moe": rotation}, work, Patience(1), lambda share: None)
    assert len(passes) == prompts + work.answer_BK.shape[1] + timing.WATCHED_STEPS
    for phase in ("prefill", "decode"):
        here = {row.component: row.seconds for row in rows if row.phase == phase}
        assert {"total", "attention", "router", "experts", "head"} <= set(here)
    if prompts == 1:
        prefill = {row.component: row.seconds for row in rows if row.phase == "prefill"}
        assert sum(prefill.values()) <= 2 * prefill["total"]


def test_the_median_is_of_plain_totals_only():
    rows = [timing.TimingRow("moe", "prefill", "total", repeat, float(repeat)) for repeat in range(5)]
    rows.append(timing.TimingRow("moe", "prefill", "attention", 0, 100.0))
    rows.append(timing.TimingRow("dense", "prefill", "total", 0, 100.0))
    assert timing.median_total(rows, "moe", "prefill") == 2.0
