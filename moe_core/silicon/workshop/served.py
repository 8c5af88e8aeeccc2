"""How far served models are from what we predict, and the constants that serving needs.

`python -m moe_core.silicon.workshop.served` fits the constants of `silicon.serving`, few per framework, adds
them to data/silicon/constants.json and writes what they predict to served.parquet. Two errors are reported:
by those constants, and by constants that never saw the model, with its checkpoints and devices (`held`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.optimize import least_squares

from moe_core.errors import InfeasibleError
from moe_core.perf import memory
from moe_core.perf.shard import refused
from moe_core.silicon import constants, serving, tables
from moe_core.silicon.constants import Array
from moe_core.silicon.serving import DEFAULT, Served
from moe_core.silicon.systems import DATA
from moe_core.silicon.workshop.samples import ServedSample, aggregated

Formula = Callable[[Served, dict[str, float]], float]

# Bounds of what is fitted. Own tables are not rescaled: only TensorRT-LLM, which has none here, is.
TOKEN = {
    **{"small": (1e-7, 2e-5), "step": (1e-5, 5e-3)},
    **{"interference": (0.1, 2.0), "interference_in_step": (0.1, 2.0)},
}
FIRST = {
    **{"start": (1e-3, 0.5), "first": (0.3, 5.0), "queue": (0.01, 5.0)},
    **{"burst": (1e-3, 1.0), "burst_in_step": (1e-3, 2.0)},
}
_RESCALED = {"trtllm": {"kernels": (0.6, 1.2)}}
CLAIM = 0.8  # what an interval claims to hold


class ServedCase(NamedTuple):
    """A sample and the seconds of its kernels."""

    sample: ServedSample
    served: Served


class Outcome(NamedTuple):
    """A sample with predictions by the shipped constants and by those that never saw its model (`held`)."""

    sample: ServedSample
    tpot: float
    tpot_held: float
    ttft: float
    ttft_held: float


class ServedRow(NamedTuple):
    """The same without objects, as it ships in served.parquet. Seconds, measured and predicted."""

    id: str
    name: str
    framework: str
    device: str
    configuration: str
    mixture: bool
    queued: bool
    sequences: int
    devices: int
    isl: int
    osl: int
    tpot: float
    tpot_predicted: float
    tpot_held: float
    ttft: float
    ttft_predicted: float
    ttft_held: float


class Score(NamedTuple):
    """Errors relative to the measurement, and the rank correlation over configurations."""

    rows: int
    mape: float
    median: float
    bias: float
    within_20: float
    spearman: float


def cases() -> tuple[list[ServedCase], dict[str, int]]:
    """Every sample we can ask about, and what was left out and why."""
    found = aggregated()
    left, kept = dict(found.left_out), []
    for sample in found.used:
        answer = _served(sample)
        if isinstance(answer, str):
            left[answer] = left.get(answer, 0) + 1
        else:
            kept.append(ServedCase(sample, answer))
    return kept, left


def _served(sample: ServedSample) -> Served | str:
    """The seconds of its kernels, or why we cannot be asked."""
    if refused(memory.model(sample.arch), sample.parallel, sample.precision):
        return "a split that engines refuse (its row cannot say what ran)"
    try:
        return serving.served(
            sample.arch,
            sample.device,
            sequences=sample.sequences,
            isl=sample.isl,
            osl=sample.osl,
            precision=sample.precision,
            kv=sample.kv,
            parallel=sample.parallel,
            framework=sample.framework,
            in_step=sample.in_step,
        )
    except InfeasibleError:
        return "does not fit by our count"


def fit(known: Sequence[ServedCase], framework: str) -> dict[str, float]:
    """Constants of one framework: those of tokens first, then those of the first token."""
    mine = [case for case in known if case.sample.framework == framework]
    values = dict(DEFAULT)
    bounds = TOKEN | _RESCALED.get(framework, {})
    values |= _solve(mine, values, bounds, serving.tpot, [case.sample.tpot for case in mine])
    values |= _solve(mine, values, FIRST, serving.ttft, [case.sample.ttft for case in mine])
    return values


def _solve(
    mine: Sequence[ServedCase],
    values: dict[str, float],
    bounds: dict[str, tuple[float, float]],
    formula: Formula,
    measured: Sequence[float],
) -> dict[str, float]:
    names = [name for name in bounds if any(_reads(case, name) for case in mine)]
    target, low, high = np.log(measured), *(np.log([bounds[n][i] for n in names]) for i in (0, 1))

    def residuals(logs: Array) -> Array:
        tried = values | dict(zip(names, (float(x) for x in np.exp(logs)), strict=True))
        return np.asarray([np.log(formula(case.served, tried)) for case in mine]) - target

    start = np.clip(np.log([values[name] for name in names]), low + 1e-6, high - 1e-6)
    found = least_squares(residuals, start, bounds=(low, high), loss="soft_l1", f_scale=0.15, max_nfev=40)
    return dict(zip(names, (float(f"{x:.4g}") for x in np.exp(found.x)), strict=True))


def _reads(case: ServedCase, name: str) -> bool:
    """Whether a constant matters to a case: those of prompts in step only to such."""
    if name.endswith("_in_step"):
        return case.served.in_step
    return not (case.served.in_step and name in ("interference", "burst"))


def outcomes(known: Sequence[ServedCase]) -> list[Outcome]:
    """Predictions by the shipped constants and by those that never saw the model."""
    return [_outcome(case) for case in known]


def _outcome(case: ServedCase) -> Outcome:
    own = constants.served(case.sample.framework)
    other = constants.served_without(case.sample.framework, case.sample.name)
    tokens = (serving.tpot(case.served, own), serving.tpot(case.served, other))
    return Outcome(case.sample, *tokens, serving.ttft(case.served, own), serving.ttft(case.served, other))


def row(one: Outcome) -> ServedRow:
    """What ships of an outcome."""
    of = one.sample
    return ServedRow(
        *(of.id, of.name, of.framework, of.device.name, of.configuration),
        *(of.arch.experts is not None, of.queued),
        *(of.sequences, of.parallel.devices, of.isl, of.osl),
        *(of.tpot, one.tpot, one.tpot_held, of.ttft, one.ttft, one.ttft_held),
    )


def shipped() -> list[ServedRow]:
    """The outcomes as they were when the constants were fitted: what a page reads."""
    found = tables.measured("served", ServedRow._fields)
    return [ServedRow(*values) for values in zip(*found.values(), strict=True)]


def score(predicted: Sequence[float], measured: Sequence[float], keys: Sequence[object]) -> Score:
    """Errors over rows; ranks over configurations, repeated runs of one at their medians."""
    from scipy.stats import spearmanr  # half a second to load: not for a page that ranks nothing

    guess, truth = np.asarray(predicted), np.asarray(measured)
    errors = guess / truth - 1
    groups: dict[object, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    medians = [(np.median(guess[rows]), np.median(truth[rows])) for rows in groups.values()]
    ranks = spearmanr(*zip(*medians, strict=True)).statistic if len(medians) > 2 else float("nan")
    return Score(
        *(len(errors), float(np.mean(np.abs(errors))), float(np.median(np.abs(errors)))),
        *(float(np.mean(errors)), float(np.mean(np.abs(errors) <= 0.2)), float(ranks)),
    )


def report(found: Sequence[ServedRow] | None = None) -> dict[str, Any]:
    """What the accuracy command says about served models: of the shipped rows unless others are given."""
    found = shipped() if found is None else found
    parts = {
        "all": found,
        "mixture": [one for one in found if one.mixture],
        "dense": [one for one in found if not one.mixture],
        "all but queued": [one for one in found if not one.queued],
    }
    names = sorted({_group(one) for one in found})
    groups = [{"group": " / ".join(n), **_scores([o for o in found if _group(o) == n])} for n in names]
    groups.sort(key=lambda row: -row["tpot_held"]["mape"])
    return {
        "rows": len(found),
        "left_out": constants.left_out(),
        "scores": {name: _scores(rows) for name, rows in parts.items()},
        "groups": groups,
        "worst": _worst(found),
        "queued": sum(one.queued for one in found),
        "coverage": _coverage(found),
    }


def _group(one: ServedRow) -> tuple[str, str, str]:
    return one.name, one.framework, one.device


def _scores(rows: Sequence[ServedRow]) -> dict[str, Any]:
    keys = [one.configuration for one in rows]
    tokens, firsts = [one.tpot for one in rows], [one.ttft for one in rows]
    return {
        "tpot": score([one.tpot_predicted for one in rows], tokens, keys)._asdict(),
        "tpot_held": score([one.tpot_held for one in rows], tokens, keys)._asdict(),
        "ttft": score([one.ttft_predicted for one in rows], firsts, keys)._asdict(),
        "ttft_held": score([one.ttft_held for one in rows], firsts, keys)._asdict(),
    }


def _coverage(found: Sequence[ServedRow]) -> float:
    """Share of rows inside an interval whose width was taken from the framework's other models."""
    inside = 0
    for framework, name in sorted({(one.framework, one.name) for one in found}):
        same = [one for one in found if one.framework == framework]
        others = [_factor(one) for one in same if one.name != name]
        width = float(np.quantile(others, CLAIM))
        inside += sum(bool(_factor(one) <= width) for one in same if one.name == name)
    return inside / len(found)


def _worst(found: Sequence[ServedRow], most: int = 20) -> list[dict[str, Any]]:
    """Configurations furthest off, one row each, by the factor between the two."""
    seen: dict[str, ServedRow] = {}
    for one in sorted(found, key=_factor, reverse=True):
        seen.setdefault(one.configuration, one)
    return [
        {
            **{"id": one.id, "configuration": one.configuration, "queued": one.queued},
            **{"measured": one.tpot, "predicted": one.tpot_held},
        }
        for one in list(seen.values())[:most]
    ]


def _factor(one: ServedRow) -> float:
    return float(abs(np.log(one.tpot_held / one.tpot)))


def refit() -> None:
    """Fit the constants of serving, with every model and without each in turn; write what they say too."""
    known, left = cases()
    record = json.loads(constants.PATH.read_text(encoding="utf-8"))
    record["served"] = {name: fit(known, name) for name in constants.FRAMEWORKS}
    record["served_without"] = {name: _without_each(known, name) for name in constants.FRAMEWORKS}
    for name in constants.FRAMEWORKS:
        record["served"][name]["spread"] = _spread(known, name, record["served_without"][name])
    record["left_out"] = left
    constants.PATH.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    constants.forget()
    columns = zip(*(row(one) for one in outcomes(known)), strict=True)
    table = pa.table(dict(zip(ServedRow._fields, columns, strict=True)))
    pq.write_table(table, DATA / "served.parquet", compression="zstd", compression_level=19)


def _without_each(known: Sequence[ServedCase], framework: str) -> dict[str, dict[str, float]]:
    names = sorted({case.sample.name for case in known if case.sample.framework == framework})
    return {name: fit([case for case in known if case.sample.name != name], framework) for name in names}


def _spread(known: Sequence[ServedCase], framework: str, without: dict[str, dict[str, float]]) -> float:
    """80 % quantile of the log error per output token of models left out."""
    mine = [case for case in known if case.sample.framework == framework]
    guess = [serving.tpot(case.served, without[case.sample.name]) for case in mine]
    errors = np.abs(np.log(guess) - np.log([case.sample.tpot for case in mine]))
    return float(f"{np.quantile(errors, CLAIM):.3g}")


if __name__ == "__main__":
    refit()
