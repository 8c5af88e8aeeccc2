"""Table: the experiments, one row each. What is asked, what is expected, and which file answers.

No torch here: pages and commands list experiments without it. `perform` imports the file that computes, which
has the experiment's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Literal, NamedTuple

from moe_core.errors import ConfigError
from moe_core.runs.context import RunContext
from moe_core.specs import Experiment, RunSpec, Strategy, Training


class ExperimentRow(NamedTuple):
    """One experiment. `code`: as the documents number them; `page`: where its result is shown first."""

    code: str
    title: str
    question: str
    expected: str
    page: str = "experiments"


TABLE: Mapping[Experiment, ExperimentRow] = {
    "gates": ExperimentRow(
        "E1",
        "Mask first or softmax first",
        "Does it matter whether the gate masks before its softmax or after?",
        "Renormalised, both give the same weights; with k = 1 masking first leaves the router no gradient.",
        "balancing",
    ),
    "collapse": ExperimentRow(
        "E2",
        "Collapse without balancing",
        "What happens to the experts when nothing balances them?",
        "The load collapses within a hundred steps; the loss may not show it at this size.",
        "balancing",
    ),
    "auxiliary": ExperimentRow(
        "E3",
        "How strong an auxiliary loss",
        "How does the coefficient trade balance against specialisation and loss, and over which batch?",
        "Specialisation falls as the coefficient rises; only the largest coefficients cost loss.",
        "balancing",
    ),
    "bias": ExperimentRow(
        "E4",
        "Balancing by a bias",
        "Which rule balances best without touching the gradient?",
        "A bias balances as well as a loss; expert choice is even by construction, hash as even as bytes.",
        "balancing",
    ),
    "dense_training": ExperimentRow(
        "E5",
        "Train dense, infer sparse",
        "How many experts can be left out at inference when all were trained?",
        "The loss stays flat down to 30 to 40 % active, if a mutual-information loss was trained with it.",
        "conversion",
    ),
    "upcycling": ExperimentRow(
        "E6",
        "Upcycling",
        "Is a mixture made from a dense model the same at first, and better later?",
        "Copies are exact at the start; shards are not; a mixture trained from scratch catches up.",
        "conversion",
    ),
    "fine_tuning": ExperimentRow(
        "E7",
        "Fine-tuning on one domain",
        "Which experts change when one domain is trained, and what is forgotten?",
        "Updates are uneven, routing drifts, and what is frozen decides what is forgotten.",
        "conversion",
    ),
    "memory_reasoning": ExperimentRow(
        "E8",
        "Facts against reasoning",
        "Do more experts at the same active size help memory, and reasoning?",
        "Remembered facts rise with the number of experts; reasoning saturates.",
    ),
    "expert_count": ExperimentRow(
        "E9",
        "How many experts, how fine",
        "Does the loss fall with the number of experts, and with finer ones at the same size?",
        "It falls with diminishing returns at k of 2 and more; at k = 1 it may rise.",
    ),
    "distinct_experts": ExperimentRow(
        "E10",
        "Distinct experts of a batch",
        "How many experts does a batch reach, beside both formulas?",
        "The popularity formula is within 3 %; real routers lie at or below the uniform one.",
    ),
    "decode_over_batch": ExperimentRow(
        "E11",
        "Decode time over batch",
        "Is a decode step as fast as the active size says, or as slow as the total?",
        "As the active size at batch 1, towards the total in between, for real kernels here.",
    ),
    "all_to_all": ExperimentRow(
        "E12",
        "The share of all-to-all",
        "How much of a layer's time do dispatch and combine take?",
        "15 to 60 % by topology where nothing overlaps, by published latencies.",
    ),
    "shared_expert": ExperimentRow(
        "E13",
        "With and without a shared expert",
        "Does a shared expert help at the same work?",
        "Little or nothing: tested for equivalence, not for a winner.",
        "balancing",
    ),
    "below_one": ExperimentRow(
        "E14",
        "An auxiliary loss below 1",
        "Is an even load the least that the auxiliary loss can be?",
        "No: values below 1 are reached at an uneven load.",
        "balancing",
    ),
    "balancing": ExperimentRow(
        "",
        "Your own strategies",
        "How do the strategies you pick compare, on the mixture you pick?",
        "Whatever is found.",
        "balancing",
    ),
}


Setting = Literal["quick", "full"]
LIMIT_S: Mapping[Setting, float] = {
    "quick": 900.0,
    "full": 18_000.0,
}  # a minute, 25 of them: on a busy machine


def question(
    lab: Experiment,
    setting: Setting = "quick",
    *,
    seed: int = 0,
    seeds: int | None = None,
    strategies: Sequence[Strategy] = (),
    bank: tuple[int, int, int] | None = None,
) -> RunSpec:
    """An experiment as pages and commands ask it, so that both find the same answer. Raises ConfigError.

    strategies, bank (experts, top-k, shared): of "balancing" only, which has none of its own.
    """
    if (lab == "balancing") != bool(strategies):
        rule = "at least one for balancing" if lab == "balancing" else f"none: {lab} has its own"
        raise ConfigError(f"strategies ({len(strategies)}): must be {rule}")
    mixture = {} if bank is None else dict(zip(("experts", "top_k", "shared"), bank, strict=True))
    training = Training.parse({"setting": setting, "seeds": seeds, "strategies": tuple(strategies)})
    values = {"lab": lab, "training": training, "seed": seed, "time_limit_s": LIMIT_S[setting]}
    return RunSpec.parse({**values, **mixture})


def perform(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle of the experiment that `spec` names."""
    assert spec.lab in TABLE, "specs name experiments of the table"
    found: Path = import_module(f"moe_core.labs.training.{spec.lab}").execute(spec, context)
    return found
