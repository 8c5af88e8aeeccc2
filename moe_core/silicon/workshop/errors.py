"""Our errors from the shipped tables, aggregated: `python -m moe_core.silicon.workshop.errors FOLDER`.

Every measured layer is predicted by constants that never saw its architecture, every served model by
constants that never saw it. What is kept is small: scores, binned errors, binned scatter, worst cases, a row
for each served sample. A folder named by the content of tables, constants and code holds the answer; it is
written aside and renamed, so a folder that exists is whole. `progress.json` beside it says how far it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import cache as once
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moe_core.silicon import constants
from moe_core.silicon.constants import BUCKETS
from moe_core.silicon.systems import DATA
from moe_core.silicon.workshop import layer_accuracy, layer_tables, served
from moe_core.silicon.workshop.layer_accuracy import score
from moe_core.silicon.workshop.served import Outcome

PROGRESS = "progress.json"
GROUP = ["system", "framework", "dtype"]
CUTS = ("tokens", "load", "split", "architecture")
TABLES = ("groups", "cuts", "bins", "scatter", "worst", "served", "left_out")
EDGES = np.linspace(-1.0, 1.0, 81)  # of log2(predicted / measured)
_DECADE = 8  # bins of the scatter a decade
_WORST = 10  # cases kept of each group
_CORE = Path(__file__).parents[2]

Report = Callable[[float, str], None]


@once
def fingerprint() -> str:
    """Of everything the errors depend on: tables, constants, and the code of `silicon` and `perf`."""
    digest = hashlib.sha256()
    files = [*DATA.glob("*"), *(_CORE / "silicon").rglob("*.py"), *(_CORE / "perf").rglob("*.py")]
    for path in sorted(files):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def compute(report: Report = lambda share, words: None) -> dict[str, pd.DataFrame]:
    """Every table of `TABLES`. About half a minute; `report` hears the share done and what is next."""
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES[:5]}
    groups = constants.layer_groups()
    for index, group in enumerate(groups):
        report(0.5 * index / len(groups), "layers of " + ", ".join(group))
        for name, frame in of_group(*group).items():
            found[name].append(frame)
    report(0.5, "served models: asking for every sample")
    known, left = served.cases()
    report(0.85, "served models: leaving each model out in turn")
    whole = {name: pd.concat(frames, ignore_index=True) for name, frames in found.items()}
    whole["served"] = pd.DataFrame([_served(one) for one in served.outcomes(known)])
    whole["left_out"] = pd.DataFrame({"reason": list(left), "rows": list(left.values())})
    return whole


def of_group(system: str, framework: str, dtype: str) -> dict[str, pd.DataFrame]:
    """The first five tables for one system, framework and format. What was read for them is let go again."""
    rows = layer_accuracy.errors(system, framework, dtype)
    rows = rows.assign(ratio=np.log2(rows["predicted"] / rows["measured"]))
    named = dict(zip(GROUP, (system, framework, dtype), strict=True))
    found = {
        "groups": pd.DataFrame([score(rows)]),
        "cuts": _cuts(rows),
        "bins": _bins(rows),
        "scatter": _scatter(rows),
        "worst": _worst(rows),
    }
    for keep in (layer_accuracy.errors, layer_tables.read):
        keep.cache_clear()  # a million rows in all
    return {name: frame.assign(**named) for name, frame in found.items()}


def _cuts(rows: pd.DataFrame) -> pd.DataFrame:
    """cut, value, and the score of the rows that share it."""
    keys = {
        "tokens": rows["tokens"].map(_tokens),
        "load": rows["distribution"],
        "split": np.where(
            rows["ep"] > 1, "experts dealt out", np.where(rows["tp"] > 1, "experts sliced", "whole")
        ),
        "architecture": rows["shape"],
    }
    return pd.DataFrame(
        [
            {"cut": cut, "value": str(value), **score(part)}
            for cut, key in keys.items()
            for value, part in rows.groupby(np.asarray(key), sort=True)
        ]
    )


def _tokens(tokens: int) -> str:
    """The range of tokens, as the intervals are fitted."""
    for low, high in pairwise(BUCKETS):
        if tokens <= high:
            return f"{low + 1:,} to {high:,}" if high < 1 << 30 else f"above {low:,}"
    raise AssertionError("the last bucket has no end")


def _bins(rows: pd.DataFrame) -> pd.DataFrame:
    """low, high (log2 of predicted over measured; the outer bins take what lies beyond), rows."""
    counts, _ = np.histogram(rows["ratio"].clip(EDGES[0], EDGES[-1]), EDGES)
    return pd.DataFrame({"low": EDGES[:-1], "high": EDGES[1:], "rows": counts})


def _scatter(rows: pd.DataFrame) -> pd.DataFrame:
    """measured, predicted (middles of bins, seconds), rows, inside (share within its interval)."""
    data = pd.DataFrame(
        {
            "measured": _binned(rows["measured"]),
            "predicted": _binned(rows["predicted"]),
            "inside": rows["measured"].between(rows["lower"], rows["upper"]),
        }
    )
    found = data.groupby(["measured", "predicted"])["inside"].agg(["size", "mean"]).reset_index()
    return found.rename(columns={"size": "rows", "mean": "inside"})


def _binned(seconds: pd.Series[float]) -> Any:
    return 10 ** ((np.floor(np.log10(seconds.to_numpy()) * _DECADE) + 0.5) / _DECADE)


def _worst(rows: pd.DataFrame) -> pd.DataFrame:
    """The cases furthest off, one for each architecture, load and split."""
    far = rows.assign(off=rows["ratio"].abs()).sort_values("off", ascending=False)
    far = far.drop_duplicates(["shape", "distribution", "tp", "ep"]).head(_WORST)
    return far[["shape", "kernel", "tp", "ep", "distribution", "tokens", "measured", "predicted", "off"]]


def _served(one: Outcome) -> dict[str, Any]:
    """A served sample and what constants say that never saw its model. Seconds."""
    sample = one.sample
    where = {"model": sample.name, "framework": sample.framework, "device": sample.device.name}
    return {
        **where,
        "kind": "dense" if sample.arch.experts is None else "mixture",
        "id": sample.id,
        "configuration": hashlib.sha256(repr(sample.configuration).encode()).hexdigest()[:12],
        "sequences": sample.sequences,
        "devices": sample.parallel.devices,
        "isl": sample.isl,
        "osl": sample.osl,
        "queued": sample.queued,
        "tpot": sample.tpot,
        "tpot_predicted": one.tpot_held,
        "ttft": sample.ttft,
        "ttft_predicted": one.ttft_held,
    }


# -- kept ------------------------------------------------------------------------------------------


def write(folder: Path) -> Path:
    """Compute into `folder / fingerprint()`; what is there already stays. Progress in `folder / PROGRESS`."""
    target = folder / fingerprint()
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{target.name}.{os.getpid()}.tmp"
    try:
        aside.mkdir()
        for name, frame in compute(lambda share, words: _tell(folder, share, words)).items():
            frame.to_parquet(aside / f"{name}.parquet", index=False)
        if not target.exists():
            aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        (folder / PROGRESS).unlink(missing_ok=True)
    return target


def _tell(folder: Path, share: float, words: str) -> None:
    aside = folder / f"{PROGRESS}.{os.getpid()}"
    aside.write_text(json.dumps({"share": share, "words": words, "process": os.getpid()}), encoding="utf-8")
    aside.replace(folder / PROGRESS)


def read(folder: Path) -> dict[str, pd.DataFrame] | None:
    """Every table, None if they were not computed from what ships now."""
    target = folder / fingerprint()
    if not target.exists():
        return None
    return {name: pd.read_parquet(target / f"{name}.parquet") for name in TABLES}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
