"""Series: what experiments measured, as charts want it. Arms and their parts, means over seeds, differences.

`rows`: origin (measured here | measured elsewhere), arm, seed, metric, axis, x, value. An arm's name is its
strategy, and where the whole experiment was done for several k, after a comma the part that the arm belongs
to: `none, k=1`. No Streamlit here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moe_core.labs.training.statistics import half_width, paired
from moe_core.provenance import Provenance
from moe_core.store.queries import Run

COLUMNS = ("origin", "arm", "seed", "metric", "axis", "x", "value")
FLOOR = "uniform"  # the arm of a router that chooses evenly at random: what no router can be expected below
BEFORE = "before, "  # begins the name of an arm that others start from
_FAMILY = re.compile(r"_p95$|\.\d+$")  # of another measure's spread, or of single experts: in the data alone
_PART = re.compile(r"^(.+), (k=\d+)$")
LATE = 0.25  # the last quarter of an axis says how a curve ends
SHARE = "share"  # an axis of ours: how much of the training is done, so that short and long runs compare


class Metric(NamedTuple):
    """What a series measures: title of the axis, words inside a sentence, unit, whether less is better."""

    title: str
    words: str
    unit: str = ""


METRICS: Mapping[str, Metric] = {
    "maxvio_step": Metric("MaxVio of a step: busiest over mean, less 1", "the MaxVio of a step"),
    "maxvio_window": Metric("MaxVio over a window of steps", "the MaxVio over a window"),
    "loss": Metric("training loss, nats a byte", "the training loss", "nats"),
    "heldout": Metric("held-out loss, nats a byte", "the held-out loss", "nats"),
    "effective": Metric("experts in use: exp(entropy of the load) / E", "the share of experts in use"),
    "router_effective": Metric(
        "indecision of the gate: exp(entropy of a token's gate) / E", "the gate's indecision"
    ),
    "dead": Metric("share of experts without any token in a window", "the share of dead experts"),
    "old_loss": Metric("loss on what was known before, nats a byte", "the loss on what was known", "nats"),
    "new_loss": Metric("loss on the new domain, nats a byte", "the loss on the new domain", "nats"),
    "router_drift": Metric("drift of the router (KL), nats", "the drift of the router", "nats"),
    "gini": Metric("Gini coefficient of the experts' updates", "the unevenness of updates"),
    "start_error": Metric("relative difference of the outputs at the start", "the difference at the start"),
    "difference": Metric("largest difference of the two weights", "the difference of the weights"),
    "router_gradient": Metric("norm of the router's gradient", "the router's gradient"),
    "auxiliary": Metric("auxiliary loss (1 at an even load)", "the auxiliary loss"),
    "minimum": Metric("least auxiliary loss reached", "the least auxiliary loss"),
    "heldout_information": Metric("specialisation on held-out text, nats", "the specialisation", "nats"),
    "experts_reached": Metric("experts reached by a batch", "the number of experts reached"),
    "distinct": Metric("distinct experts of a batch", "the number of distinct experts"),
    "seconds": Metric("seconds", "the time", "s"),
    "share": Metric("share of the layer's time", "the share of the layer's time"),
    "accuracy": Metric("share of right answers", "the accuracy"),
    "dual": Metric("value of the dual: what no even assignment can beat", "the value of the dual"),
    "dual_violation": Metric("share of pairs above the even share", "the share of pairs above even"),
    "bits": Metric("bits remembered", "what is remembered", "bits"),
    "mutual_information": Metric(
        "mutual information of domain and expert, nats", "the specialisation", "nats"
    ),
}
AXES: Mapping[str, str] = {
    "step": "training step",
    SHARE: "share of the training done",
    "tokens": "tokens seen",
    "flops": "training FLOPs",
    "parameters": "parameters",
    "active": "active parameters",
    "top_k": "experts of a token (k)",
    "experts": "experts",
    "batch": "batch (sequences)",
    "alpha": "coefficient of the loss",
}
NAMED = ("alpha", "expert")  # axes whose values are names: zero is among them
FIRST = ("maxvio_step", "heldout", "loss")  # what is looked at first where nothing else is asked for
MAIN: Mapping[str, tuple[str, str]] = {  # the measure and the axis that answer an experiment's question
    "gates": ("difference", "top_k"),
    "auxiliary": ("heldout_information", "alpha"),
    "dense_training": ("heldout", "top_k"),
    "upcycling": ("loss", "step"),
    "fine_tuning": ("old_loss", "step"),
    "memory_reasoning": ("bits", "experts"),
    "expert_count": ("heldout", "experts"),
    "distinct_experts": ("distinct", "batch"),
    "decode_over_batch": ("seconds", "batch"),
    "all_to_all": ("share", "ranks"),
    "shared_expert": ("loss", "tokens"),
    "below_one": ("auxiliary", "step"),
}
BESIDE: Mapping[str, tuple[str, tuple[str, ...]]] = {  # what else belongs to an experiment, in a sentence
    "bias": (
        "Each rule goes uphill on one dual problem: the scores stay fixed, the bias alone moves.",
        ("dual", "dual_violation"),
    ),
}
BASES: Mapping[str, str] = {  # the arm that others are compared with; the first where none is named
    "upcycling": "continued dense",
    "dense_training": "all experts",
    "fine_tuning": "all",
}


def metric(name: str) -> Metric:
    """How a metric is called; one that is not known here by its own name."""
    words = name.replace("_", " ")
    return METRICS.get(name, Metric(words, f"the {words}"))


def axis_title(name: str) -> str:
    """How an axis is called."""
    return AXES.get(name, name.replace("_", " "))


def strategy(arm: str) -> str:
    """`none` of `none, k=1`."""
    found = _PART.match(arm)
    return found[1] if found else arm


def part(arm: str) -> str:
    """`k=1` of `none, k=1`; empty where the name has no such part."""
    found = _PART.match(arm)
    return found[2] if found else ""


def strategies(arms: Iterable[str]) -> dict[str, str]:
    """Arm -> its strategy, where that keeps the arms apart; else its whole name."""
    names = list(dict.fromkeys(arms))
    short = [strategy(arm) for arm in names]
    chosen = short if len(set(short)) == len(names) else names
    return {arm: name.replace("_", " ") for arm, name in zip(names, chosen, strict=True)}


def of_run(run: Run, series: pd.DataFrame) -> pd.DataFrame:
    """Rows of a run in the store."""
    origin: Provenance = "measured elsewhere" if run.reference else "measured here"
    return series.assign(origin=origin)[list(COLUMNS)]


def named(rows: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Arms called by their strategies in words, where they are only numbered from 1 on."""
    names = {str(at): f"{at}: {said}" for at, said in enumerate(arms, 1)}
    return rows.assign(arm=rows["arm"].map(lambda arm: names.get(arm, arm)))


def of_picture(picture: Mapping[str, Any] | None) -> pd.DataFrame:
    """Rows of an experiment that goes on; empty when nothing has been measured yet."""
    parts = [
        pd.DataFrame({"x": one["x"], "value": one["value"]}).assign(
            **{name: one[name] for name in ("arm", "seed", "metric", "axis")}
        )
        for one in (picture or {}).get("series", ())
        if one["x"]
    ]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(parts, ignore_index=True).assign(origin="measured here")[list(COLUMNS)]


def loads_of_picture(picture: Mapping[str, Any] | None) -> pd.DataFrame:
    """arm, seed, step, layer, expert, load, ratio: the last window of every arm of what goes on."""
    found = [
        {"arm": one["arm"], "seed": one["seed"], "step": one["step"], "layer": layer, "expert": expert}
        | {"load": load, "ratio": load * len(row) / total if (total := sum(row)) else 0.0}
        for one in (picture or {}).get("loads", ())
        for layer, row in enumerate(one["load"])
        for expert, load in enumerate(row)
    ]
    return pd.DataFrame(found, columns=["arm", "seed", "step", "layer", "expert", "load", "ratio"])


# -- choosing --------------------------------------------------------------------------------------


def metrics(rows: pd.DataFrame) -> list[str]:
    """Metrics that have a curve or several points, those that are looked at first in front."""
    along = rows.groupby(["metric", "axis"], sort=False)["x"].nunique()
    sizes = along.groupby("metric", sort=False).max()
    drawn = [str(name) for name in sizes.index if not _FAMILY.search(str(name))]
    several = [name for name in drawn if sizes[name] > 1] or drawn
    return sorted(several, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def parts(rows: pd.DataFrame) -> list[str]:
    """Parts of the experiment, in their order; one empty name, for all of it, unless every arm has a part."""
    found = list(dict.fromkeys(part(arm) for arm in rows["arm"].unique()))
    return [""] if "" in found else found


def axes(rows: pd.DataFrame, name: str) -> list[str]:
    """Axes of a metric along which there are most points first; the share of the training where runs of
    different lengths stand side by side."""
    mine = rows[rows["metric"] == name]
    points = mine.groupby("axis", sort=False)["x"].nunique()
    found = [str(axis) for axis in points.index if points[axis] > 1] or [str(points.index[0])]
    if "step" in found:
        lengths = mine[mine["axis"] == "step"].groupby("origin")["x"].max()
        at = 0 if len(lengths) > 1 and lengths.max() > 1.2 * lengths.min() else len(found)
        found.insert(at, SHARE)
    return found


def chosen(rows: pd.DataFrame, name: str, axis: str, of_part: str = "") -> pd.DataFrame:
    """Rows of one metric over one axis, of one part if one is named."""
    found = rows[(rows["metric"] == name) & (rows["axis"] == ("step" if axis == SHARE else axis))]
    if axis == SHARE and len(found):
        found = found.assign(x=found["x"] / found.groupby("origin")["x"].transform("max"))
    if not of_part:
        return found
    return found[_mask(part(arm) == of_part for arm in found["arm"])]


# -- summing up ------------------------------------------------------------------------------------


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """origin, arm, x, value (mean over seeds), low, high (95 % t interval; NaN for one seed), seeds."""
    grouped = rows.groupby(["origin", "arm", "x"], sort=False)["value"]
    found = grouped.agg(value="mean", spread="std", seeds="count").reset_index()
    several = found["seeds"] > 1
    half = np.full(len(found), np.nan)
    half[several] = half_width(
        found.loc[several, "spread"].to_numpy(), found.loc[several, "seeds"].to_numpy()
    )
    return found.assign(low=found["value"] - half, high=found["value"] + half).drop(columns="spread")


def ends(rows: pd.DataFrame) -> pd.DataFrame:
    """origin, arm, seed, value: how each curve ends, the mean over the last quarter of its points."""
    keys = ["origin", "arm", "seed"]
    found = []
    for key, mine in rows.groupby(keys, sort=False):
        last = mine.sort_values("x")["value"].tail(max(1, round(len(mine) * LATE)))
        found.append(dict(zip(keys, key, strict=True)) | {"value": float(last.mean())})
    return pd.DataFrame(found, columns=[*keys, "value"])


def differences(rows: pd.DataFrame, base: str) -> pd.DataFrame:
    """origin, arm, seed, value, mean, low, high, seeds: how an arm ends less how `base` ends, seed by seed.

    Only seeds that both have. The interval is that of a paired t test; NaN for one seed.
    """
    found = []
    for (origin, arm), mine in ends(rows).groupby(["origin", "arm"], sort=False):
        against = ends(rows[(rows["origin"] == origin) & (rows["arm"] == base)])
        both = mine.merge(against, on="seed", suffixes=("", "_base"))
        if arm == base or both.empty:
            continue
        told = paired(both["value"].tolist(), both["value_base"].tolist())
        each = both.assign(value=both["value"] - both["value_base"])[["origin", "arm", "seed", "value"]]
        found.append(each.assign(mean=told.value, low=told.low, high=told.high, seeds=told.seeds))
    columns = ["origin", "arm", "seed", "value", "mean", "low", "high", "seeds"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def beside_each_other(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of what is compared: not of the models that were trained before, to start from."""
    trained = without_floor(rows)
    return trained[_mask(not arm.startswith(BEFORE) for arm in trained["arm"])]


def without_floor(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of what was trained."""
    return rows[_mask(strategy(arm) != FLOOR for arm in rows["arm"])]


def _mask(told: Iterable[bool]) -> np.ndarray:
    """A choice of rows, also of none."""
    return np.array(list(told), dtype=bool)


def floor(rows: pd.DataFrame, name: str, of_part: str) -> tuple[float, float] | None:
    """Mean and 95th percentile of what an evenly random router shows in this metric; None if unknown."""
    mine = rows[_mask(strategy(arm) == FLOOR and part(arm) == of_part for arm in rows["arm"])]
    mean = mine.loc[mine["metric"] == name, "value"]
    high = mine.loc[mine["metric"] == f"{name}_p95", "value"]
    return (float(mean.iloc[0]), float(high.iloc[0])) if len(mean) and len(high) else None


def seeds(rows: pd.DataFrame) -> int:
    """How many seeds there are at least of every arm."""
    counts = rows.groupby(["origin", "arm"])["seed"].nunique()
    return int(counts.min()) if len(counts) else 0


# -- two ways to fail ------------------------------------------------------------------------------

COLLAPSED = 0.6  # fewer than so many of the experts in use, exp(H) / E: a load that has collapsed
FLAT = 0.97  # a gate that is so undecided that its choice is a toss-up: routing that is not learned


def failures(rows: pd.DataFrame) -> pd.DataFrame:
    """origin, arm, effective, router_effective, verdict (healthy, collapsed, flat); late means over seeds."""
    found = []
    both = ("effective", "router_effective")
    values = {name: ends(rows[rows["metric"] == name]) for name in both}
    means_of = {
        name: frame.groupby(["origin", "arm"], sort=False)["value"].mean() for name, frame in values.items()
    }
    for row in pd.DataFrame(means_of).dropna().reset_index().to_dict("records"):
        verdict = _verdict(float(row["effective"]), float(row["router_effective"]))
        found.append({**row, "verdict": verdict})
    return pd.DataFrame(found, columns=["origin", "arm", *both, "verdict"])


def _verdict(effective: float, undecided: float) -> str:
    if effective < COLLAPSED:
        return "collapsed"
    return "flat" if undecided > FLAT else "healthy"


def origins(rows: pd.DataFrame) -> Sequence[str]:
    """Where rows were measured."""
    return list(dict.fromkeys(rows["origin"]))
