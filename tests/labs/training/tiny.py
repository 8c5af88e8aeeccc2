"""Experiments at a size that tests can pay, and what they publish."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pandas as pd
import torch

from moe_core.labs.training.arms import TrainSize
from moe_core.nn.router import from_choice
from moe_core.nn.routing import Routing
from moe_core.runs import bundle
from moe_core.runs.bundle import Bundle
from moe_core.runs.context import RunContext
from moe_core.specs import RunSpec, Training

TINY = TrainSize(hidden=32, layers=2, width=32, batch=8, seq=16, steps=6, seeds=2, heldout=64, windows=3)
MANIFEST = {"value", "low", "high", "seeds", "unit"}


def perform(lab: str, training: Training | None = None, **asked: Any) -> Bundle:
    """Run an experiment and read what it published; MOE_DATA_DIR says where."""
    module = import_module(f"moe_core.labs.training.{lab}")
    spec = RunSpec(lab=lab, training=training or Training(), **asked)
    return bundle.verify(module.execute(spec, RunContext()))


def findings(done: Bundle) -> dict[str, dict[str, Any]]:
    """Name -> finding; every one has all that a finding has."""
    found: dict[str, dict[str, Any]] = done.manifest.summary["findings"]
    assert all(set(one) == MANIFEST for one in found.values())
    return found


def series(done: Bundle) -> pd.DataFrame:
    """What was measured."""
    return done.table("series").to_pandas()


def routing_of(scores_TE: torch.Tensor, top_k: int) -> Routing:
    """Each token's best experts by score; logits are the scores' logarithms."""
    chosen_TK = scores_TE.detach().topk(top_k, dim=-1).indices
    return from_choice(chosen_TK, scores_TE.gather(-1, chosen_TK), scores_TE, scores_TE.log())
