"""Top-k sweep: what quality costs when a token may visit fewer experts. Carved, random, oracle, dense."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe_core.runs import admission, answer, models, quality
from moe_core.runs import question as questions
from moe_core.runs.context import RunContext
from moe_core.runs.execute import overall, prepare
from moe_core.runs.question import Question
from moe_core.specs import RunSpec

LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128)  # each is carved anew, in about a second
TOKENS = 2048  # a pass over so many, three passes a rung: some seconds on two CPU cores


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle: quality against k, over at most `TOKENS` tokens.

    Raises ConfigError, InfeasibleError (before anything is allocated), CancelledError, StoreError.
    """
    context.step("check", 0.0)
    question = questions.resolve(_cut(spec))
    wanted = question.need()
    admission.admit(wanted, question.device)
    with admission.memory_guarded(wanted):
        results = _sweep(question, context)
    context.step("write", 0.97)
    chosen = {name: bits_B for (name, top_k), bits_B in results.items() if top_k == spec.top_k}
    tables = {"quality": quality.columns(results, question.sample)}
    summary = {"decisions": 0, "bits_per_byte": overall(chosen, question)}
    return answer.publish(question._replace(spec=spec), context, tables, summary, {"top_k": ladder(spec)})


def ladder(spec: RunSpec) -> list[int]:
    """The values of k that are tried: up to all experts, the one that was asked for among them."""
    return sorted({k for k in LADDER if k <= spec.experts} | {spec.top_k, spec.experts})


def _cut(spec: RunSpec) -> RunSpec:
    """The same question over fewer tokens: shorter sequences first down to 128, then fewer of them."""
    seq = min(spec.seq, max(128, TOKENS // spec.batch))
    return spec.model_copy(update={"seq": seq, "batch": min(spec.batch, max(1, TOKENS // seq))})


def _sweep(question: Question, context: RunContext) -> dict[tuple[str, int], np.ndarray]:
    """(model, k) -> bits of every sequence."""
    dense, _ = prepare(question, context)
    sample, rungs = question.sample, ladder(question.spec)
    context.step("quality", 0.2)
    dense_B = quality.sequence_bits(dense, sample)
    results: dict[tuple[str, int], np.ndarray] = {}
    for number, top_k in enumerate(rungs):
        results["dense", top_k] = dense_B
        spec = question.spec.model_copy(update={"top_k": top_k})  # what is carved is fitted to its k
        moe = models.mixture(spec, question.device, question.dtype)
        for name, model in models.routed(moe, spec).items():
            context.step("quality", 0.2 + 0.77 * number / len(rungs))
            results[name, top_k] = quality.sequence_bits(model, sample)
    return results
