"""Sites: where in a Hugging Face model experts are chosen, and how each place says what it chose.

Nearly every family of transformers 5 hands its choice to a module named `experts`, whose forward takes the
hidden states, the chosen experts [T, K] and their weights [T, K]: those are read as they go in. Logits are
not the choice: many families add a bias to them, limit it to groups, or hash. The others have a rule each.
Legend: T tokens, K choices of a token, E experts, N routed pairs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from moe_core.errors import ConfigError

NONE = -1  # in place of an expert: the token skips this layer, or the expert was full


class Choice(NamedTuple):
    """experts_TK int64, `NONE` where there is none; weights_TK, as the model multiplies by them."""

    experts_TK: Tensor
    weights_TK: Tensor


class Site(NamedTuple):
    """One place of choice. `part`: the name without numbers, so that layers of one kind share it.

    experts   how many compute; ids from there on, `idle` of them, return the token as it is (LongCat).
    owner     name of the module that gets the sequences: the decoder, or the encoder.
    """

    name: str
    part: str
    layer: int
    module: nn.Module
    experts: int
    idle: int
    owner: str
    rule: SiteRule


class SiteRule(NamedTuple):
    """How a class of modules is read. `before`: from its inputs; else from its inputs and its output."""

    read: Callable[[nn.Module, tuple[Any, ...], Any], Choice]
    before: bool = True
    idle: Callable[[nn.Module], int] = lambda module: 0


# -- rules -----------------------------------------------------------------------------------------


def indexed(module: nn.Module, inputs: tuple[Any, ...], _: Any) -> Choice:
    """forward(hidden, experts_TK, weights_TK), which nearly all have."""
    given = [value for value in inputs if isinstance(value, Tensor)]
    if len(given) < 3 or given[1].is_floating_point() or given[1].shape != given[2].shape:
        raise ConfigError(f"model: {type(module).__name__} takes no experts and weights of each token")
    experts_TK, weights_TK = given[1], given[2]
    return Choice(experts_TK.reshape(-1, experts_TK.shape[-1]), weights_TK.reshape(-1, weights_TK.shape[-1]))


def skipping(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Choice:
    """Zaya: a token that skips the layer is given expert 0 with weight 0."""
    found = indexed(module, inputs, output)
    return Choice(found.experts_TK.masked_fill(found.weights_TK == 0, NONE), found.weights_TK)


def one_hot(module: nn.Module, inputs: tuple[Any, ...], _: Any) -> Choice:
    """Switch: [T, 1, E] with a one, or none where the expert was full."""
    marked_TE, weights_T1 = inputs[1].flatten(0, -2), inputs[2].reshape(-1, 1)
    taken_T1 = marked_TE.sum(-1, keepdim=True) > 0
    experts_T1 = marked_TE.argmax(-1, keepdim=True).masked_fill(~taken_T1, NONE)
    return Choice(experts_T1, weights_T1 * taken_T1)


def gates(module: nn.Module, inputs: tuple[Any, ...], _: Any) -> Choice:
    """NLLB: gate values [T, E], zero but for the two that have room."""
    found = inputs[2].topk(min(2, inputs[2].shape[-1]), dim=-1)
    return Choice(found.indices.masked_fill(found.values == 0, NONE), found.values)


def scattered(module: Any, _: tuple[Any, ...], output: Any) -> Choice:
    """Llama 4's router: scores [T, E], by which every expert's input is multiplied, and their logits."""
    scores_TE, logits_TE = output
    experts_TK = logits_TE.topk(module.top_k, dim=1).indices
    return Choice(experts_TK, scores_TE.gather(1, experts_TK))


def sorted_pairs(module: Any, _: tuple[Any, ...], output: Any) -> Choice:
    """JetMoE's gating: pairs sorted by expert, with their places (T x K) and how many each expert has."""
    places_N, _, gates_N, sizes, _ = output
    ids_N = torch.arange(len(sizes), device=places_N.device)
    ids_N = ids_N.repeat_interleave(torch.tensor(sizes, device=places_N.device))
    experts_N, weights_N = torch.empty_like(places_N), torch.empty_like(gates_N)
    experts_N[places_N], weights_N[places_N] = ids_N, gates_N
    return Choice(experts_N.view(-1, module.top_k), weights_N.view(-1, module.top_k))


def product_keys(module: Any, _: tuple[Any, ...], output: Any) -> Choice:
    """Doge: the best sums of one key of each half; an expert is a pair of keys."""
    logits = output[1]
    (first_TM, second_TM), (row_TM, column_TM) = logits.topk(module.num_keys, dim=-1)
    sums_TN = (first_TM.unsqueeze(-1) + second_TM.unsqueeze(-2)).flatten(-2)
    ids_TN = (row_TM.unsqueeze(-1) * module.num_keys + column_TM.unsqueeze(-2)).flatten(-2)
    best = sums_TN.topk(module.top_k, dim=-1)
    weights_TK = best.values.softmax(-1)
    if module.norm_topk_prob:
        weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
    return Choice(ids_TN.gather(-1, best.indices), weights_TK)


_PLAIN = SiteRule(indexed)
RULES: Mapping[str, SiteRule] = {  # by class, where the module's name does not say it all
    "ZayaExperts": SiteRule(skipping),
    "LongcatFlashExperts": SiteRule(indexed, idle=lambda module: int(module.zero_expert_num)),  # type: ignore[arg-type]
    "SwitchTransformersExperts": SiteRule(one_hot),
    "NllbMoeExperts": SiteRule(gates),
    "Llama4Router": SiteRule(scattered, before=False),
    "JetMoeTopKGating": SiteRule(sorted_pairs, before=False),
    "DogeCDMoE": SiteRule(product_keys, before=False),
}
_INSTEAD = ("Llama4TextExperts", "JetMoeMoA")  # named `experts`, and read elsewhere


# -- finding them ----------------------------------------------------------------------------------


def sites(model: nn.Module) -> list[Site]:
    """Every place of choice in `model`, in its order. Raises ConfigError where none can be read."""
    found = [
        _site(model, name, module, RULES.get(type(module).__name__, _PLAIN))
        for name, module in model.named_modules()
        if _chooses(name, module)
    ]
    if not found:
        raise ConfigError(f"model ({type(model).__name__}): has no experts whose choice can be read")
    return found


def _chooses(name: str, module: nn.Module) -> bool:
    kind = type(module).__name__
    if kind in RULES:
        return True
    named = name.rpartition(".")[2] == "experts" and kind not in _INSTEAD
    return named and not isinstance(module, nn.ModuleList)  # a list has no forward: its choice passes nowhere


def _site(model: nn.Module, name: str, module: nn.Module, rule: SiteRule) -> Site:
    numbers = re.findall(r"\.(\d+)(?=\.|$)", name)
    layer = int(numbers[0]) if numbers else 0
    owner = re.split(r"(?:^|\.)\w+\.\d+(?=\.|$)", name, maxsplit=1)[0] if numbers else ""
    part = ".".join(word for word in name.split(".") if not word.isdecimal())
    idle = rule.idle(module)
    return Site(name, part, layer, module, _experts(module), idle, owner, rule)


def _experts(module: nn.Module) -> int:
    """How many experts compute: the module's own number, else the first size of its stacked weights."""
    for field in ("num_routed_experts", "num_experts", "n_routed_experts", "num_local_experts"):
        value = getattr(module, field, None)
        if isinstance(value, int):
            return value
    stacked = [parameter.shape[0] for parameter in module.parameters(recurse=False) if parameter.ndim == 3]
    if not stacked:
        raise ConfigError(f"model: how many experts {type(module).__name__} has cannot be told")
    return int(stacked[0])
