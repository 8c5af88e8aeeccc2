"""Execute: one forward pass of a dense model and of a mixture, for real: recorded, judged, timed, weighed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from moe_core.device import PeakMemory, cache_bytes, pick, synchronise
from moe_core.errors import InfeasibleError
from moe_core.nn.model import Decoder
from moe_core.runs import admission, allocator, answer, footprint, models, quality, text, timing, tuning
from moe_core.runs import question as questions
from moe_core.runs.context import RunContext
from moe_core.runs.question import Question
from moe_core.runs.record import Decisions, Recorder
from moe_core.settings import Settings
from moe_core.specs import RunSpec

REFERENCES = ("random", "oracle")  # routers to compare with: left out where a busy machine leaves no time
QUALITY_ENDS = 0.4  # of the time limit: no reference is begun later, so that memory and times still fit
TIMING_ENDS = 0.9  # of the time limit: no repeat begins that would end later


class ModelPair(NamedTuple):
    """The two models that are compared."""

    dense: Decoder
    moe: Decoder


def warm() -> None:
    """Load what every run needs, and make the device ready: the first run is then as fast as the second."""
    allocator.keep_pages()
    device = pick("auto")
    dtype = questions.dtype_for(RunSpec(), device, tuning.known(device))
    models.shipped(models.DENSE, torch.device("cpu"), torch.float32)  # what carving starts from
    models.calibrated()  # the first time it is computed
    text.load("heldout")
    for path in (models.DENSE, models.TRAINED):
        model = models.shipped(path, device, dtype)
        with torch.inference_mode():
            model(torch.zeros(1, 16, dtype=torch.int64, device=device))
    synchronise(device)


def execute(spec: RunSpec, context: RunContext) -> Path:
    """The published bundle that answers `spec`.

    Raises ConfigError, InfeasibleError (before anything is allocated), CancelledError, StoreError.
    """
    context.step("check", 0.0)
    question = questions.resolve(spec)
    _bounded(question)
    wanted = question.need()
    admission.admit(wanted, question.device)
    with admission.memory_guarded(wanted):
        pair = prepare(question, context)
        bits, decisions = _record(question, pair, context)
        recorded = {"decisions": decisions.expert_LTK.size}
        tables = {
            "decisions": decisions.columns(),
            "tokens": question.sample.columns(),
            "probabilities": decisions.probabilities(question.sample.domains),
        }
        routing = _publish_routing(question, context, tables, recorded)
        rest, summary, rules = _measure(question, pair, bits, context)
    context.step("write", 0.97)
    return answer.publish(
        question,
        context,
        rest if routing else tables | rest,
        recorded | summary,
        rules,
        since="time",
        earlier=routing,
    )


def _publish_routing(
    question: Question, context: RunContext, tables: dict[str, dict[str, Any]], summary: dict[str, Any]
) -> Path | None:
    """The routing, to be seen while the rest is measured; None where the whole answer lies there already."""
    if answer.known(question):
        return None
    path = answer.publish(question, context, tables, summary, {}, complete=False)
    context.published(path.name)
    return path


def prepare(question: Question, context: RunContext) -> ModelPair:
    """Both models, ready to run. The same question gets the same weights."""
    torch.manual_seed(question.spec.seed)
    context.step("load", 0.01)
    path = models.dense_paths(question.spec)["dense"]
    dense = models.shipped(path, question.device, question.dtype)
    context.step("carve", 0.02)
    moe = models.mixture(question.spec, question.device, question.dtype)
    synchronise(question.device)
    return ModelPair(dense, moe)


def _measure(
    question: Question, pair: ModelPair, bits_B: np.ndarray, context: RunContext
) -> tuple[dict[str, dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Tables, summary and rules of what follows the routing."""
    bits = _judge(question, pair, bits_B, context)
    context.step("memory", 0.36)
    memory, peaks = _weigh(question, pair, context)
    rows, rotation = _time(question, pair, context)
    top_k = question.spec.top_k
    tables = {
        "timings": timing.columns(rows),
        "memory": memory,
        "quality": quality.columns({(name, top_k): bits_B for name, bits_B in bits.items()}, question.sample),
    }
    summary = {
        "bits_per_byte": overall(bits, question),
        "prefill_s": {name: timing.median_total(rows, name, "prefill") for name in pair._fields},
        "decode_s": {name: timing.median_total(rows, name, "decode") for name in pair._fields},
        "peak_bytes": {name: _total(memory, name) for name in pair._fields},
        "repeats": 1 + max(row.repeat for row in rows),
    }
    return tables, summary, {"process_peak": peaks, "rotation": rotation, "decode_from": question.start}


def overall(bits: dict[str, np.ndarray], question: Question) -> dict[str, float]:
    """Model -> bits per byte over all sequences."""
    return {name: float(bits_B.sum() / question.tokens) for name, bits_B in bits.items()}


def _record(question: Question, pair: ModelPair, context: RunContext) -> tuple[np.ndarray, Decisions]:
    """What the mixture's router decided, and the bits that the mixture needed for every sequence."""
    sample = question.sample
    names = sample.domains
    recorder = Recorder([names.index(d) for d in sample.domains_B], len(names), sample.seq)

    def after() -> None:
        recorder.collect()
        context.step("record", 0.2)

    context.step("record", 0.2)
    bits_B = quality.sequence_bits(pair.moe, sample, recorder, after)
    return bits_B, recorder.decisions()


def _judge(
    question: Question, pair: ModelPair, bits_B: np.ndarray, context: RunContext
) -> dict[str, np.ndarray]:
    """Bits of every sequence by model. `bits_B`: the mixture's, which are known."""
    judged = {"dense": pair.dense} | _others(question) | models.routed(pair.moe, question.spec)
    found = {}
    for number, (name, model) in enumerate(judged.items()):
        if name in REFERENCES and context.left_s(QUALITY_ENDS) < 0:
            continue
        step = partial(context.step, "quality", 0.24 + 0.03 * number)
        step()
        found[name] = bits_B if name == "moe" else quality.sequence_bits(model, question.sample, after=step)
    return found


def _others(question: Question) -> dict[str, Decoder]:
    """Further dense models that are judged, but not timed."""
    paths = models.dense_paths(question.spec)
    return {
        name: models.shipped(path, question.device, question.dtype)
        for name, path in paths.items()
        if name != "dense"
    }


def _weigh(
    question: Question, pair: ModelPair, context: RunContext
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The table `memory`, and the peak of device or process while each model ran."""
    work = question.work()
    predicted, measured, peaks = {}, {}, {}
    architectures = (question.dense, question.moe)
    for name, model, arch in zip(pair._fields, pair, architectures, strict=True):
        context.step("memory", 0.36)
        with PeakMemory(question.device) as peak:
            measured[name] = footprint.measure(model, work)
            synchronise(question.device)
        predicted[name] = footprint.predict(arch, question.shape, question.form)
        peaks[name] = peak.bytes
    return footprint.columns(predicted, measured), peaks | {"what": peak.what}


def _time(
    question: Question, pair: ModelPair, context: RunContext
) -> tuple[list[timing.TimingRow], dict[str, Any]]:
    """Every timing, and how weights were rotated."""
    context.step("time", 0.4)
    work, rotations, rule = question.work(), {}, {}
    for name, model in zip(pair._fields, pair, strict=True):
        size = sum(footprint.weight_bytes(model).values())
        copies = admission.copies(size, question.device)
        rotations[name] = timing.Rotation(model, copies, work)
        rule[name] = {"copies": copies, "bytes": copies * size}
        context.step("time", 0.41)
    patience = timing.Patience(question.spec.repeats, lambda: context.left_s(TIMING_ENDS))
    rows = timing.measure(rotations, work, patience, lambda share: context.step("time", 0.42 + 0.55 * share))
    return rows, rule | {"cache_bytes": cache_bytes(question.device)}


def _bounded(question: Question) -> None:
    """Raises InfeasibleError when more decisions would be recorded than the installation allows."""
    spec, limit = question.spec, Settings.load().max_decisions
    decisions = question.tokens * spec.top_k * len(question.moe.moe_layers)
    if decisions > limit:
        raise InfeasibleError(
            f"records {decisions:,} router decisions, MOE_MAX_DECISIONS allows {limit:,}: "
            "ask for a smaller batch, seq or top_k"
        )


def _total(memory: dict[str, list[Any]], model: str) -> int:
    rows = zip(memory["model"], memory["component"], memory["measured_bytes"], strict=True)
    return next(size for name, part, size in rows if (name, part) == (model, "total"))
