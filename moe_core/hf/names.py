"""Which component a parameter of a Hugging Face model belongs to, by its name and shape. No torch.

Names follow the conventions of the model zoo; what no rule knows is `other`, so the components always
add up to the exact total. Used on models built on the meta device and on safetensors headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod

from moe_core.perf.params import Breakdown

_MIXERS = r"^(.*\.(?:self_attn|mixer|mamba|linear_attn|temporal_block|conv|short_conv|attention|mlp))\."
_RECURRENT = r"(?<!sconv)\.(A_log|dt_bias|conv1d|conv_1d|conv|x_proj|slope_rate|output_gate)(\.|$)"
_RULES = (  # first match wins
    ("norms", r"(^|\.)ln_(attn|mlp|1|2|f)\."),
    ("shared", r"shared_(expert|mlp)|shared_experts"),
    ("router", r"(^|\.)(router|router_gate|e_score_correction_bias|expert_bias|moe_statics)(\.|$)"),
    ("experts", r"(^|\.)(experts|switch_mlp|down_embed|up_embed)\."),
    ("head", r"(^|\.)(lm_head|embed_out|output_projection)\.|^head\."),
    ("other", r"(^|\.)(\w*_hc|hc_\w+|\w*hyper_connection\w*)\.|embed_positions|wpe|position_embed|per_layer"),
    ("mixer", r"(linear_attn|mamba|kda|ssm|rg_?lru|mlstm_layer|recurrent|short_conv|(^|\.)conv\.)"),
    ("norms", r"^(?!.*(attn|attention)\.).*(norm|(^|\.)ln_|layernorm)"),
    ("attention", r"(attn|attention|(^|\.)(q|k|v|o)_proj)"),
    ("embedding", r"(embed_tokens|word_embeddings|wte|embed_in|embeddings)"),
    (
        "ffn",
        r"(mlp|ffn|feed_forward|fc1|fc2|up_proj|down_proj|gate_proj|latent_proj|(intermediate|output)\.dense)",
    ),
)
_GATES = r"(^|\.)(gate|wg|gate_weight)(\.|$)"
_ROUTER_MODULE = (
    r"\.mlp\.gate\."  # all of it, where there are experts: a small network, a scale, null experts
)


def breakdown(shapes: Mapping[str, Sequence[int]], experts: int | None) -> Breakdown:
    """Parameters by component. `experts` is the number of routed experts of a layer, if known."""
    totals = dict.fromkeys(Breakdown._fields, 0)
    for name, part in components(shapes, experts).items():
        totals[part] += prod(shapes[name])
    return Breakdown(**totals)


def components(shapes: Mapping[str, Sequence[int]], experts: int | None) -> dict[str, str]:
    """The component of every parameter, its neighbours taken into account."""
    recurrent = {_root(name) for name in shapes if re.search(_RECURRENT, name)} - {None}
    return {name: component(name, shape, experts, _root(name) in recurrent) for name, shape in shapes.items()}


def component(name: str, shape: Sequence[int], experts: int | None, recurrent: bool = False) -> str:
    """The component of one parameter; `recurrent` when its module also holds a decay or a convolution."""
    if experts is not None and experts in shape and re.search(_GATES, name) and "shared" not in name:
        return "router"
    if experts is not None and re.search(_ROUTER_MODULE, name):
        return "router"
    found = next((part for part, rule in _RULES if re.search(rule, name)), "other")
    if found == "experts" and not _is_bank(name, shape, experts):
        return "router" if experts in shape else "attention" if "attention" in name else "ffn"
    if recurrent and found in ("attention", "ffn", "norms", "other"):
        return "mixer"
    bank = experts is not None and experts > 1 and len(shape) == 3 and shape[0] == experts
    return "experts" if bank and found in ("ffn", "other") else found


def _is_bank(name: str, shape: Sequence[int], experts: int | None) -> bool:
    """Whether it belongs to single experts: numbered ones, or all of them stacked (some add null experts)."""
    if experts is None or re.search(r"experts\.\d+\.", name):
        return True
    return len(shape) == 3 or (len(shape) > 1 and shape[0] % experts == 0)


def _root(name: str) -> str | None:
    """The token-mixing module a parameter lies in."""
    match = re.match(_MIXERS, name)
    return match.group(1) if match else None
