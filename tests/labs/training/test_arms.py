"""Arms: what is written down of each while it trains, and what is told of it."""

from __future__ import annotations

import pytest

from moe_core.labs.training import arms
from moe_core.labs.training.arms import Arm, Trained
from moe_core.labs.training.board import Board
from moe_core.labs.training.strategies import ROUTERS, Balancing
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec, Training
from tests.labs.training.tiny import TINY


def board_of(seeds: int | None = None, seed: int = 0) -> Board:
    spec = RunSpec(lab="collapse", seed=seed, training=Training(seeds=seeds))
    return Board(spec, RunContext(), {})


def test_seeds_follow_the_question_and_the_setting():
    assert list(arms.seeds(board_of(seed=5).spec, TINY)) == [5, 6]
    assert list(arms.seeds(board_of(seeds=3).spec, TINY)) == [0, 1, 2]


def test_arms_of_one_seed_are_paired_and_watched():
    board, arch = board_of(seeds=2), arms.mixture(TINY, 4, 2, 16)
    ruled = Arm("ruled", arch, Balancing(rule="sign", rate=0.01))
    trained: dict[tuple[str, int], Trained] = {}
    arms.run(
        board,
        [Arm("plain", arch), ruled],
        TINY,
        after=lambda arm, seed, result: trained.update({(arm.name, seed): result}),
    )
    assert set(trained) == {("plain", 0), ("plain", 1), ("ruled", 0), ("ruled", 1)}
    assert board.curve("plain", 0, "maxvio_step").x == [2.0, 4.0, 6.0]
    first = [board.curve(name, 0, "loss").value[0] for name in ("plain", "ruled")]
    assert first[0] == pytest.approx(first[1], abs=0.02)  # the same weights, the same bytes
    biases = [abs(board.curve("ruled", 0, f"bias.{e}").value[-1]) for e in range(4)]
    assert 0 < max(biases) <= 6 * 0.01 + 1e-6
    assert ("plain", 0, "bias.0", "step") not in board._curves
    assert board.last("plain", "heldout") == [trained["plain", seed].loss for seed in (0, 1)]


def test_late_is_the_mean_of_the_last_quarter():
    board = board_of()
    for step in range(1, 9):
        board.put("one", 0, "maxvio_step", step, step)
    assert arms.late(board, "one", "maxvio_step") == [7.5]


def test_the_floor_is_drawn_from_the_first_to_the_last_step():
    board = board_of()
    mean = arms.floor(board, "uniform", TINY, 4, 2)
    assert board.curve("uniform", 0, "maxvio_step") == ([1.0, 6.0], [mean, mean])
    assert board.curve("uniform", 0, "maxvio_step_p95").value[0] > mean > 0


def test_expert_choice_is_even_on_text_of_all_domains_together():
    board, arch = board_of(seeds=1), arms.mixture(TINY, 4, 2, 16, router=ROUTERS["expert_choice"])
    results: list[Trained] = []
    arms.run(board, [Arm("one", arch)], TINY, after=lambda arm, seed, result: results.append(result))
    load = arms.heldout_load(results[0].model, TINY)
    assert load.window == pytest.approx(0.0, abs=0.02)
    assert load.information > 0.0  # 0 when every pass reads one domain
