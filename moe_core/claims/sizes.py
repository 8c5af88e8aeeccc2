"""Sizes: parameters, configurations and bytes of published models, for claims. Counted, not predicted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from moe_core import hardware as devices
from moe_core import registry
from moe_core.claims.subjects import architecture, formats, sparse
from moe_core.errors import ConfigError
from moe_core.perf import fit, memory, params
from moe_core.perf.memory import Workload
from moe_core.perf.params import Breakdown
from moe_core.perf.step_time import token_flops
from moe_core.specs import Architecture, Experts, Precision

Convention = Literal["incl_embeddings", "excl_input_embedding", "excl_embedding_and_head"]
Field = Literal["experts", "top_k", "shared", "active", "active_share", "expert_layers"]

# -- parameters -----------------------------------------------------------------------------------


def total(model: str) -> int:
    """Every parameter of a published model."""
    return registry.parameters(registry.get(model)).total


def active(model: str, convention: Convention = "incl_embeddings") -> int:
    """Parameters that one token passes, by one of the three published conventions."""
    return int(getattr(registry.parameters(registry.get(model)).active, convention))


def active_share(model: str, convention: Convention = "incl_embeddings") -> float:
    """Active over total."""
    return active(model, convention) / total(model)


def idle_share(model: str) -> float:
    """What a token does not pass, of the total: what sparsity is."""
    return 1 - active_share(model)


def total_over_active(model: str) -> float:
    """How many times more a model holds than a token passes."""
    return total(model) / active(model)


def part(model: str, component: str) -> int:
    """Parameters of one component, all layers together."""
    if component not in Breakdown._fields:
        raise ConfigError(f"component ({component}): must be one of {', '.join(Breakdown._fields)}")
    return int(getattr(registry.parameters(registry.get(model)).breakdown, component))


def part_of_active(model: str, component: str) -> float:
    """A component over what a token passes."""
    return part(model, component) / active(model)


def routed_share(model: str) -> float:
    """Of the routed experts' parameters, the share that a token passes."""
    counted = registry.parameters(registry.get(model))
    return 1 - counted.idle / counted.breakdown.experts


def an_expert(model: str) -> int:
    """Parameters of one routed expert."""
    arch, bank = sparse(model)
    return params.ffn(arch.hidden, bank.width, arch.gated, arch.extras.expert_bias)


def router_of_a_layer(model: str) -> int:
    """Parameters of the router of one layer."""
    arch, bank = sparse(model)
    return params.moe_layer(bank, arch.hidden, arch.gated, arch.extras).router


def matrices(model: str) -> int:
    """Matrices of a feed-forward network: three where it is gated."""
    arch = architecture(model)
    return params.ffn(arch.hidden, 1, arch.gated) // arch.hidden


def replicated(model: str, experts: int, top_k: int, what: Literal["total", "active"] = "total") -> int:
    """A dense model whose feed-forward networks alone are copied into experts."""
    counted = params.count(_replicated(model, experts, top_k))
    return counted.total if what == "total" else counted.active.incl_embeddings


def replicated_bytes(model: str, experts: int, top_k: int, form: str = "bf16") -> int:
    """Bytes of the weights of such a model."""
    parts = params.count(_replicated(model, experts, top_k)).breakdown
    return sum(memory.weights(parts, formats(form, Precision())).values())


def replicated_flops(model: str, experts: int, top_k: int, context: int = 0) -> float:
    """FLOPs a token of such a model over those of the dense model it was made of."""
    return token_flops(_replicated(model, experts, top_k), context) / token_flops(
        architecture(model), context
    )


def design(model: str, field: Literal["experts", "top_k", "shared", "hidden", "layers", "run"]) -> int:
    """A number of a model's configuration; `run` is how many experts a token is sent through."""
    record = registry.get(model)
    if field in ("hidden", "layers"):
        return int(getattr(architecture(model), field))
    routing = record.routing
    if routing is None:
        return 0
    return routing.top_k + routing.shared if field == "run" else int(getattr(routing, field))


def expert_layers(model: str) -> float:
    """Share of the layers that have experts."""
    arch = architecture(model)
    return len(arch.moe_layers) / arch.layers


def renormalises(model: str) -> int:
    """1 where the weights of the chosen experts are made to sum to one, 0 where they keep their softmax."""
    router = sparse(model)[1].router
    return int(router.kind == "softmax_selected" or router.renormalise)


# -- many models ----------------------------------------------------------------------------------


def mixtures(
    field: Field, least: float = 0.0, most: float = float("inf"), since: str = "", until: str = "9999"
) -> float:
    """Share of the mixtures on file, released in `since` to `until`, whose field lies between the two."""
    values = _values(field, since, until)
    return sum(least <= value <= most for value in values) / len(values)


def spread(field: Field) -> float:
    """The largest over the smallest among the mixtures on file."""
    values = _values(field, "", "9999")
    return max(values) / min(values)


def extreme(field: Field, which: Literal["least", "most"]) -> float:
    """The smallest or the largest among the mixtures on file."""
    values = _values(field, "", "9999")
    return min(values) if which == "least" else max(values)


def _values(field: Field, since: str, until: str) -> list[float]:
    records = [
        one
        for one in registry.records()
        if one.kind == "moe" and one.routing is not None and since <= one.released <= until
    ]
    if not records:
        raise ConfigError(f"since, until ({since}, {until}): no mixture on file was released then")
    return [_FIELDS[field](one) for one in records]


def _layers_with_experts(record: registry.Record) -> float:
    return expert_layers(record.name) if record.architecture is not None else 1.0


_FIELDS: dict[str, Callable[[registry.Record], float]] = {
    "experts": lambda one: one.routing.experts if one.routing else 0,
    "top_k": lambda one: one.routing.top_k if one.routing else 0,
    "shared": lambda one: one.routing.shared if one.routing else 0,
    "active": lambda one: registry.parameters(one).active.incl_embeddings,
    "active_share": lambda one: registry.parameters(one).active.incl_embeddings / one.total,
    "expert_layers": _layers_with_experts,
}


# -- memory ---------------------------------------------------------------------------------------


def weight_bytes(model: str, form: str = "bf16") -> int:
    """Bytes of the weights; `stored` is as the makers publish them."""
    record = registry.get(model)
    breakdown = registry.parameters(record).breakdown
    return sum(memory.weights(breakdown, formats(form, record.stored)).values())


def bytes_a_parameter(model: str, form: str = "bf16") -> float:
    """Bytes of the weights over the total: what is resident, whatever a token passes."""
    return weight_bytes(model, form) / total(model)


def devices_needed(model: str, hardware: str, form: str = "bf16", batch: int = 1, context: int = 4096) -> int:
    """The fewest devices on which weights, cache and activations fit, a twentieth left free."""
    record = registry.get(model)
    setting = fit.Setting(registry.model(record), formats(form, record.stored))
    found = fit.devices(setting, Workload(batch=batch, context=context), devices.get(hardware).capacity)
    return found.parallel.devices


def memory_over_weights(model: str, batch: int, context: int) -> float:
    """All bytes that serving takes over those of the weights, 16 bits."""
    need = memory.footprint(registry.model(registry.get(model)), Workload(batch=batch, context=context))
    return need.total / need.weights_total


def update_bytes(model: str) -> int:
    """Bytes of gradients and optimizer state that a forward pass keeps."""
    need = memory.footprint(registry.model(registry.get(model)), Workload())
    return need.gradients + need.optimizer


def _replicated(model: str, experts: int, top_k: int) -> Architecture:
    arch = architecture(model)
    bank = Experts(count=experts, top_k=top_k, width=arch.ffn_width)
    return Architecture.parse({**dict(arch), "experts": bank, "ffn_width": 0})
