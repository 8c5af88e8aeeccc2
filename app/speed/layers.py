"""Layers: what a layer sweep says. Ratios, dense-equivalent widths, predictions, roofline. No Streamlit here.

`layers` frame, one row a series, width and number of tokens: subject, series (loop | grouped | auto | dense |
same_work), tokens, width, hit, median_s, p10_s, p90_s. `Facts` are the dimensions of its subject.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from moe_core.perf import device_model
from moe_core.perf.calibrate import Calibration
from moe_core.perf.dense_equivalent import dense_equivalent
from moe_core.perf.device_model import Estimate, Mixture
from moe_core.perf.roofline import Roof
from moe_core.store.queries import Run

BEST, CHOSEN = "mixture, our best kernel", "mixture, the kernel chosen"
GROUPED, LOOP = "mixture, grouped kernel", "mixture, naive loop"
ACTIVE, TOTAL = "dense, active width", "dense, total width"
KERNELS = {"auto": CHOSEN, "grouped": GROUPED, "loop": LOOP}
NAMES = (BEST, CHOSEN, GROUPED, LOOP, ACTIVE, TOTAL)


class Facts(NamedTuple):
    """A subject: its name and label, its layer, the weights taken in turn, whether they are random."""

    name: str
    label: str
    layer: Mixture
    working_set: int
    random: bool


class Split(NamedTuple):
    """A mixture layer's time at some tokens, in multiples of the dense layer of equal active width.

    total = work + code: reading and multiplying the experts that were hit, and everything else.
    """

    tokens: int
    total: float
    work: float
    code: float

    @property
    def beyond(self) -> float:
        """What it takes more than the dense layer; below zero where it is the faster one."""
        return self.total - 1

    @property
    def overhead(self) -> float | None:
        """The share of `beyond` that is our code, not the architecture; None where there is none."""
        return min(self.code / self.beyond, 1.0) if self.beyond > 0 else None


def facts(run: Run) -> list[Facts]:
    """The subjects of a sweep, in order."""
    return [
        Facts(
            one["name"],
            one["label"],
            Mixture(*(one[name] for name in Mixture._fields)),
            one["working_set"],
            one["random"],
        )
        for one in run.summary["subjects"]
    ]


def of(frame: pd.DataFrame, subject: Facts) -> pd.DataFrame:
    """The rows of one subject, with the names of `NAMES` in `name`; other widths and series have none.

    `BEST` is the kernel that took least at those tokens, whichever was chosen.
    """
    rows = frame[frame["subject"] == subject.name].reset_index(drop=True)
    widths = {subject.layer.active_width: ACTIVE, subject.layer.total_width: TOTAL}
    dense = rows["width"].map(widths).where(rows["series"] == "dense")
    kernels = rows[rows["series"].isin(KERNELS)]
    best = kernels.loc[kernels.groupby("tokens")["median_s"].idxmin()].assign(series="best", name=BEST)
    return pd.concat([rows.assign(name=rows["series"].map(KERNELS).fillna(dense)), best], ignore_index=True)


def seconds(frame: pd.DataFrame, name: str) -> dict[int, float]:
    """Tokens -> median seconds of one of `NAMES`."""
    rows = frame[frame["name"] == name]
    return {int(t): float(s) for t, s in zip(rows["tokens"], rows["median_s"], strict=True)}


def splits(frame: pd.DataFrame) -> list[Split]:
    """Where mixture, dense layer and the same work are all measured. `frame` from `of`."""
    best, active = seconds(frame, BEST), seconds(frame, ACTIVE)
    rows = frame[frame["series"] == "same_work"]
    same = {int(t): float(s) for t, s in zip(rows["tokens"], rows["median_s"], strict=True)}
    found = []
    for tokens in sorted(best.keys() & active.keys() & same.keys()):
        total, work = best[tokens] / active[tokens], same[tokens] / active[tokens]
        found.append(Split(tokens, total, min(work, total), max(total - work, 0.0)))
    return found


def equivalents(frame: pd.DataFrame, subject: Facts) -> pd.DataFrame:
    """tokens, name, width, beyond, active_multiple: the dense network that takes as long, by kernel."""
    dense = frame[frame["series"] == "dense"]
    rows = []
    for name in (BEST, LOOP):
        for tokens, taken in seconds(frame, name).items():
            curve = dense[dense["tokens"] == tokens]
            if len(curve) < 2:
                continue
            found = dense_equivalent(taken, curve["width"].tolist(), curve["median_s"].tolist())
            rows.append((tokens, name, found.width, found.beyond, found.width / subject.layer.active_width))
    return pd.DataFrame(rows, columns=["tokens", "name", "width", "beyond", "active_multiple"])


# -- predicted -------------------------------------------------------------------------------------


def calibration(run: Run) -> Calibration:
    """What a calibration run measured."""
    return Calibration.parse_json(json.dumps(run.summary["calibration"]))  # strict: tuples only from JSON


def estimates(
    frame: pd.DataFrame, subject: Facts, known: Calibration, dtype: str
) -> Iterator[tuple[str, int, Estimate]]:
    """(name, tokens, estimate) for the best kernel and both dense widths, where measured."""
    layer, held = subject.layer, float(subject.working_set)
    for row in frame.to_dict("records"):
        tokens = int(row["tokens"])
        if row["name"] == BEST:
            yield (
                BEST,
                tokens,
                device_model.mixture(
                    known, dtype, layer, tokens, distinct=float(row["hit"]), working_set=held
                ),
            )
        elif row["name"] in (ACTIVE, TOTAL):
            width = int(row["width"])
            yield (
                row["name"],
                tokens,
                device_model.dense(known, dtype, layer.hidden, width, tokens, layer.gated, held),
            )


def predicted(frame: pd.DataFrame, subject: Facts, known: Calibration, dtype: str) -> pd.DataFrame:
    """name, tokens, measured_s, predicted_s, error, roof_s, bound."""
    measured = {name: seconds(frame, name) for name in (BEST, ACTIVE, TOTAL)}
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "tokens": tokens,
            "measured_s": measured[name][tokens],
            "predicted_s": guess.seconds,
            "error": guess.seconds / measured[name][tokens] - 1,
            "roof_s": guess.roof_s,
            "bound": guess.bound,
        }
        for name, tokens, guess in estimates(frame, subject, known, dtype)
    ]
    return pd.DataFrame(rows)


def roofline(frame: pd.DataFrame, subject: Facts, known: Calibration, dtype: str) -> pd.DataFrame:
    """name, tokens, intensity (FLOP a byte), measured and modelled FLOP/s."""
    measured = {name: seconds(frame, name) for name in (BEST, ACTIVE, TOTAL)}
    rows = [
        {
            "name": name,
            "tokens": tokens,
            "intensity": guess.flops / guess.bytes,
            "measured": guess.flops / measured[name][tokens],
            "modelled": guess.flops / guess.seconds,
        }
        for name, tokens, guess in estimates(frame, subject, known, dtype)
    ]
    return pd.DataFrame(rows)


def limits(subject: Facts, known: Calibration, dtype: str) -> Roof:
    """The device's roof for weights of this working set."""
    return device_model.roof(known, dtype, float(subject.working_set))
