"""Made-up findings of experiments, and the names that the experiments' files promise."""

from __future__ import annotations

from typing import Any

from moe_core.claims.findings import Findings, RunFinding
from moe_core.specs import RunSpec, Training

STRATEGIES = ("sign", "proportional", "quantile", "sequence", "z", "expert_choice", "hash", "auxiliary")
ARMS = ("all", "router_frozen", "experts_only", "non_moe_only", "last_router", "relevant_experts", "dense")
ALPHAS = ("a0", "a0.01", "a1")
PROMISED = {
    "gates": {
        *("max_difference", "router_gradient_k1_mask_first", "router_gradient_k1_softmax_first"),
        "mass_not_renormalised",
    },
    "collapse": {
        f"{metric}.{name}.k{k}"
        for metric in ("maxvio_step", "maxvio_window", "effective", "dead")
        for name in ("none", "auxiliary", "bias")
        for k in (1, 2)
    },
    "auxiliary": {
        "loss_difference.a1",
        *(f"{metric}.{alpha}" for metric in ("mutual_information", "maxvio_step") for alpha in ALPHAS),
    },
    "bias": {
        *(f"maxvio_step.{name}" for name in STRATEGIES),
        *("loss_difference.sign_auxiliary", "loss_difference.sign_quantile", "bias_gradient"),
        *("dual_violation_first", "dual_violation_last", "causal_gap.expert_choice"),
    },
    "dense_training": {
        *("loss_ratio.active30", "loss_difference.with_without_mi", "loss_difference.against_sparse"),
        *("loss_difference.against_dense", "loss_difference.against_dense_active30"),
    },
    "upcycling": {
        *(f"error.{name}" for name in ("copy", "copy_raw_softmax", "shards", "virtual_groups")),
        *(f"loss_difference.{name}" for name in ("tokens", "flops", "scratch_first", "scratch_last", "drop")),
    },
    "fine_tuning": {
        *("gini.updates", "router_drift.all"),
        *(f"{metric}.{arm}" for metric in ("forgetting", "new_loss") for arm in ARMS),
    },
    "memory_reasoning": {
        *("facts_gain", "reasoning_gain", "facts_against_dense_total", "reasoning_against_dense_total"),
        *(f"{kind}.{arm}" for kind in ("facts", "reasoning") for arm in ("dense_total", "most_experts")),
    },
    "expert_count": {
        *("loss_difference.k1_most_least", "loss_difference.k2_most_least"),
        *("gain_first_doubling", "gain_last_doubling", "granularity_gain"),
    },
    "distinct_experts": {"popularity_error", "uniform_excess", "real_below_uniform"},
    "decode_over_batch": {f"ratio_dense_{size}.{batch}" for size in ("active", "total") for batch in ("b1",)},
    "all_to_all": {"share_low", "share_high", "share_here"},
    "shared_expert": {"loss_difference", "tost_margin", "tost_p"},
    "below_one": {"minimum", "load_most"},
}


def finding(value: float, low: float | None = None, high: float | None = None, seeds: int = 3) -> RunFinding:
    """A finding of one made-up run."""
    return RunFinding(value, low, high, seeds, "", "0123456789abcdef", True, "a test, 2026-11-28")


def of(lab: str, **values: RunFinding) -> Findings:
    """Findings of one lab; `__` in a name stands for a dot."""
    return {lab: {name.replace("__", "."): value for name, value in values.items()}}


def summary(
    value: float, low: float | None = None, high: float | None = None, seeds: int = 3
) -> dict[str, Any]:
    """A finding as the summary of a run holds it."""
    return {"value": value, "low": low, "high": high, "seeds": seeds, "unit": ""}


def spec(lab: str, **training: Any) -> RunSpec:
    """The question of an experiment."""
    return RunSpec.parse({"lab": lab, "training": Training(**training)})
