"""How far served models are from what we predict, and the constants that serving needs.

`python -m moe_core.silicon.endtoend` fits the constants of `silicon.serving`, few per framework, and adds
them to data/silicon/constants.json. Two errors are reported: by those constants, and by constants that never
saw the model, with all its checkpoints and devices (`held`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from moe_core.errors import InfeasibleError
from moe_core.silicon import constants, serving
from moe_core.silicon.samples import Sample, aggregated
from moe_core.silicon.serving import DEFAULT, Served

Array = np.ndarray[Any, np.dtype[Any]]
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


class Case(NamedTuple):
    """A sample and the seconds of its kernels."""

    sample: Sample
    served: Served


class Outcome(NamedTuple):
    """Measured and predicted seconds of one sample; `held` by constants that never saw its model."""

    sample: Sample
    tpot: float
    tpot_held: float
    ttft: float
    ttft_held: float


class Score(NamedTuple):
    """Errors relative to the measurement, and the rank correlation over configurations."""

    rows: int
    mape: float
    median: float
    bias: float
    within_20: float
    spearman: float


def cases() -> tuple[list[Case], dict[str, int]]:
    """Every sample we can ask about, and what was left out and why."""
    found = aggregated()
    left, kept = dict(found.left_out), []
    for sample in found.used:
        answer = _served(sample)
        if answer is None:
            left["does not fit by our count"] = left.get("does not fit by our count", 0) + 1
        else:
            kept.append(Case(sample, answer))
    return kept, left


def _served(sample: Sample) -> Served | None:
    """None where it does not fit by our count."""
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
        return None


def fit(known: Sequence[Case], framework: str) -> dict[str, float]:
    """Constants of one framework: those of tokens first, then those of the first token."""
    mine = [case for case in known if case.sample.framework == framework]
    values = dict(DEFAULT)
    bounds = TOKEN | _RESCALED.get(framework, {})
    values |= _solve(mine, values, bounds, serving.tpot, [case.sample.tpot for case in mine])
    values |= _solve(mine, values, FIRST, serving.ttft, [case.sample.ttft for case in mine])
    return values


def _solve(
    mine: Sequence[Case],
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


def _reads(case: Case, name: str) -> bool:
    """Whether a constant matters to a case: those of prompts in step only to such."""
    if name.endswith("_in_step"):
        return case.served.in_step
    return not (case.served.in_step and name in ("interference", "burst"))


def outcomes(known: Sequence[Case]) -> list[Outcome]:
    """Predictions by the shipped constants and by constants that never saw the model."""
    held = {
        (framework, name): fit([case for case in known if case.sample.name != name], framework)
        for framework, name in sorted({(case.sample.framework, case.sample.name) for case in known})
    }
    found = []
    for sample, case in known:
        own, other = constants.served(sample.framework), held[sample.framework, sample.name]
        tokens = (serving.tpot(case, own), serving.tpot(case, other))
        found.append(Outcome(sample, *tokens, serving.ttft(case, own), serving.ttft(case, other)))
    return found


def score(predicted: Sequence[float], measured: Sequence[float], keys: Sequence[object]) -> Score:
    """Errors over rows; ranks over configurations, repeated runs of one at their medians."""
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


def report() -> dict[str, Any]:
    """Everything the accuracy page and command say about served models."""
    known, left = cases()
    found = outcomes(known)
    mixture = [one for one in found if one.sample.arch.experts is not None]
    dense = [one for one in found if one.sample.arch.experts is None]
    steady = [one for one in found if not one.sample.queued]
    parts = {"all": found, "mixture": mixture, "dense": dense, "all but queued": steady}
    names = sorted({_group(one) for one in found})
    groups = [{"group": " / ".join(n), **_scores([o for o in found if _group(o) == n])} for n in names]
    groups.sort(key=lambda row: -row["tpot_held"]["mape"])
    return {
        "rows": len(found),
        "left_out": left,
        "scores": {name: _scores(rows) for name, rows in parts.items()},
        "groups": groups,
        "worst": _worst(found),
        "queued": sum(one.sample.queued for one in found),
        "coverage": _coverage(found),
    }


def _group(one: Outcome) -> tuple[str, str, str]:
    return one.sample.name, one.sample.framework, one.sample.device.name


def _scores(rows: Sequence[Outcome]) -> dict[str, Any]:
    keys = [one.sample.configuration for one in rows]
    tokens, firsts = [one.sample.tpot for one in rows], [one.sample.ttft for one in rows]
    return {
        "tpot": score([one.tpot for one in rows], tokens, keys)._asdict(),
        "tpot_held": score([one.tpot_held for one in rows], tokens, keys)._asdict(),
        "ttft": score([one.ttft for one in rows], firsts, keys)._asdict(),
        "ttft_held": score([one.ttft_held for one in rows], firsts, keys)._asdict(),
    }


def _coverage(found: Sequence[Outcome]) -> float:
    """Share of rows inside an interval whose width was taken from the framework's other models."""
    inside = 0
    for framework, name in sorted({(one.sample.framework, one.sample.name) for one in found}):
        same = [one for one in found if one.sample.framework == framework]
        others = [_factor(one) for one in same if one.sample.name != name]
        width = float(np.quantile(others, CLAIM))
        inside += sum(bool(_factor(one) <= width) for one in same if one.sample.name == name)
    return inside / len(found)


def _worst(found: Sequence[Outcome], most: int = 20) -> list[dict[str, Any]]:
    """Configurations furthest off, one row each, by the factor between the two."""
    seen: dict[tuple[object, ...], Outcome] = {}
    for one in sorted(found, key=_factor, reverse=True):
        seen.setdefault(one.sample.configuration, one)
    return [
        {
            **{"id": one.sample.id, "measured": one.sample.tpot, "predicted": one.tpot_held},
            **{"queued": one.sample.queued, "sequences": one.sample.sequences},
        }
        for one in list(seen.values())[:most]
    ]


def _factor(one: Outcome) -> float:
    return float(abs(np.log(one.tpot_held / one.sample.tpot)))


def _spread(known: Sequence[Case], framework: str) -> float:
    """80 % quantile of the log error per output token of models left out."""
    errors = []
    for name in sorted({case.sample.name for case in known if case.sample.framework == framework}):
        values = fit([case for case in known if case.sample.name != name], framework)
        mine = [case for case in known if (case.sample.framework, case.sample.name) == (framework, name)]
        errors += [np.log(serving.tpot(case.served, values) / case.sample.tpot) for case in mine]
    return float(f"{np.quantile(np.abs(errors), CLAIM):.3g}")


def main() -> None:
    """Fit and write the constants of serving."""
    known, left = cases()
    print(len(known), left, flush=True)
    found = {name: fit(known, name) for name in ("vllm", "sglang", "trtllm")}
    for name, values in found.items():
        values["spread"] = _spread(known, name)
        print(name, values, flush=True)
    record = json.loads(constants.PATH.read_text(encoding="utf-8"))
    record["served"] = found
    constants.PATH.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
