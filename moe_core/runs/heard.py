"""Heard: whose recorded load is put on the full size, read from the bundles.

The web process asks its store the same (`moe_core.store.queries`), which a command cannot open beside it.
Both choose alike: this question's own answer, else one to the same spec, else the nearest shipped run, else
the nearest of all. Whether a trace is heard instead says `moe_core.scenario.origin`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from math import log2
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from moe_core.errors import ConfigError, StoreError
from moe_core.perf import economics
from moe_core.runs import bundle, facts
from moe_core.runs.bundle import Bundle
from moe_core.specs import RunSpec
from moe_core.version import question_id


class Heard(NamedTuple):
    """A run that is heard, and whether it ships with the product."""

    run: Bundle
    reference: bool

    @property
    def load(self) -> tuple[float, ...]:
        """Shares of the experts of a layer by rank, mean over layers."""
        return _load(self.run)


def heard(spec: RunSpec, runs_dir: Path, reference: Path) -> Heard | None:
    """The run whose load speaks for `spec`; None where there is none at all."""
    found = [Heard(run, False) for run in _read(bundle.published(runs_dir))]
    shipped = sorted(path.parent for path in reference.glob("*/manifest.json"))
    found += [Heard(run, True) for run in _read(shipped)]
    whole = [one for one in found if one.run.manifest.complete]
    newest = sorted(whole, key=lambda one: one.run.manifest.created, reverse=True)
    own = [one for one in newest if not one.reference]
    question, asked = question_id(spec), spec.model_dump(mode="json")
    same = [one for one in newest if one.run.manifest.spec == asked]
    for some in (
        [one for one in own if one.run.manifest.question_id == question],
        sorted(same, key=lambda one: one.reference),
        _nearest(spec, [one for one in newest if one.reference]),
        _nearest(spec, newest),
    ):
        if some:
            return some[0]
    return None


def traces(runs_dir: Path, reference: Path) -> list[Heard]:
    """Every trace of a served model, made here and shipped."""
    own = [Heard(run, False) for run in _read(bundle.published(runs_dir))]
    shipped = sorted(path.parent for path in reference.glob("*/manifest.json"))
    every = [*own, *(Heard(run, True) for run in _read(shipped))]
    return [one for one in every if _of(one).get("lab") == "trace" and _sound(one)]


def _sound(one: Heard) -> bool:
    """Whether the web process would take it in."""
    try:
        facts.check(one.run.manifest)
    except ConfigError:
        return False
    return True


def _read(paths: Iterable[Path]) -> list[Bundle]:
    found = []
    for path in paths:
        with suppress(StoreError):  # the web process sets it aside and says so
            found.append(bundle.read(path))
    return found


def _nearest(spec: RunSpec, runs: list[Heard]) -> list[Heard]:
    """The runs of this lab, the one most like `spec` first; never one of somebody's own text."""
    alike = [one for one in runs if _of(one)["lab"] == spec.lab and _of(one).get("text") is None]
    return sorted(alike, key=lambda one: (_of(one)["model"] != spec.model, _distance(spec, one)))


def _of(one: Heard) -> dict[str, object]:
    return one.run.manifest.spec


def _distance(spec: RunSpec, one: Heard) -> float:
    """Doublings between two questions: experts and top-k count fully, batch and length a quarter."""
    run = one.run.manifest.spec
    doublings = {name: abs(log2(run[name] / getattr(spec, name))) for name in ("top_k", "batch", "seq")}
    experts = abs(log2(facts.experts(one.run.manifest) / spec.experts))
    shared = 0.5 * abs(run["shared"] - spec.shared)
    return experts + doublings["top_k"] + shared + 0.25 * (doublings["batch"] + doublings["seq"])


def _load(run: Bundle) -> tuple[float, ...]:
    """Pairs of every expert of every layer, those without any included."""
    if "counts" in run.tables:
        table = run.table("counts").select(["layer", "expert", "pairs"])
    else:
        table = run.table("decisions").select(["layer", "expert"])
        table = table.append_column("pairs", pa.repeat(pa.scalar(1), table.num_rows))
    summed = table.group_by(["layer", "expert"]).aggregate([("pairs", "sum")]).to_pydict()
    experts, layers = facts.experts(run.manifest), dict[int, list[float]]()
    for layer, expert, many in zip(summed["layer"], summed["expert"], summed["pairs_sum"], strict=True):
        if expert < experts:  # zero experts carry no load
            layers.setdefault(layer, [0.0] * experts)[expert] = float(many)
    return economics.ranked([layers[layer] for layer in sorted(layers)])
