"""The formats a checkpoint is stored in: from the blocks of its config.json, or of the file beside it.

A scheme (`schemes`) names modules; a model has matrices (`modules`). Each matrix gets its format, and each
component what its matrices have: one format, or the average of several, as in `nvfp4@9.2`. Embedding, head,
router and norms stay as they were trained unless a scheme says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from moe_core.formats import Format, kind, stored
from moe_core.hf import schemes
from moe_core.hf.block import Unknown, brief
from moe_core.hf.modules import Matrix
from moe_core.hf.patterns import Names
from moe_core.hf.reader import language
from moe_core.hf.schemes import Scheme
from moe_core.specs import Precision

_BLOCKS = ("quantization_config", "compression_config", "quantization")
_TRAINED = (
    "embedding",
    "head",
    "router",
    "norms",
    "tower",
)  # that a scheme leaves alone unless it names them


class StoredFormats(NamedTuple):
    """Formats by component, the format of the cache, and what to tell the user."""

    precision: Precision
    kv: Format
    notes: tuple[str, ...]


def published(
    config: Mapping[str, Any], matrices: Sequence[Matrix] = (), beside: Mapping[str, Any] | None = None
) -> StoredFormats:
    """The formats that `config` states, or `beside` (hf_quant_config.json) where it is silent.

    `matrices`: those of the model; without them every layer is taken to have one of each kind.
    """
    inner = language(config).values
    trained, odd = _trained({**config, **inner})
    block = _block(config, inner, beside)
    if block is None:
        return StoredFormats(Precision(default=trained), "bf16", (*odd, *_no_object(config, inner, trained)))
    every = matrices or _generic(inner.get("num_hidden_layers"))
    try:
        found = _experts_of_their_own(schemes.scheme(block), {**config, **inner})
        rules = [(Names(rule.modules), rule.form) for rule in found.rules]
        precision, mixed = _formats(found, rules, every, trained)
        said = (*found.said, *mixed, *_unused(found, rules, every))
    except Unknown as reason:
        note = f"quantization_config: {reason}; the weights are sized as {trained}"
        return StoredFormats(Precision(default=trained), "bf16", (*odd, note))
    return StoredFormats(precision, found.kv or "bf16", (*odd, *said))


def _block(
    config: Mapping[str, Any], inner: Mapping[str, Any], beside: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """The block that says most: ModelOpt writes a short one into the config and the whole beside it."""
    stated = [source.get(name) for source in (config, inner) for name in _BLOCKS]
    if beside is not None:
        own = beside.get("quantization", beside)
        if isinstance(own, Mapping):
            stated.append({"quant_method": "modelopt", **own})
    found = [block for block in stated if isinstance(block, Mapping) and block]
    return max(found, key=lambda block: schemes.method_of(block) != "", default=None)


def _no_object(config: Mapping[str, Any], inner: Mapping[str, Any], trained: Format) -> tuple[str, ...]:
    """A sentence where a block is there and holds no fields."""
    for name in _BLOCKS:
        said = config.get(name) or inner.get(name)
        if said:
            return (f"{name} ({brief(said)}): must be an object; the weights are sized as {trained}",)
    return ()


_DTYPE = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "": "bf16", "auto": "bf16"}


def _trained(config: Mapping[str, Any]) -> tuple[Format, tuple[str, ...]]:
    """The format of what no scheme touches, and a sentence where the config says none of 16 or 32 bits."""
    said = str(config.get("dtype") or config.get("torch_dtype") or "").removeprefix("torch.")
    if said in _DTYPE:
        return _DTYPE[said], ()
    return "bf16", (f"dtype ({brief(said)}): is not 16 or 32 bits; what no scheme names is sized as bf16",)


def _experts_of_their_own(found: Scheme, config: Mapping[str, Any]) -> Scheme:
    """DeepSeek-V4 says the format of its experts beside the block."""
    if config.get("expert_dtype") == "fp4" and found.form in ("fp8", "fp8_block") and not found.rules:
        return found._replace(rules=(schemes.ModuleRule(("experts",), "mxfp4"),))
    return found


# -- which format a matrix has ---------------------------------------------------------------------


_Ruled = tuple[Names, Format | None]


def _form_of(found: Scheme, rules: Sequence[_Ruled], left: Names, one: Matrix) -> Format | None:
    """The format of a matrix; None where it stays as it was trained."""
    for names, form in rules:
        if names.name(one.name):
            return form
    if left.name(one.name) or (one.component in _TRAINED and not found.whole):
        return None
    return found.form


def _formats(
    found: Scheme, rules: Sequence[_Ruled], matrices: Sequence[Matrix], trained: Format
) -> tuple[Precision, tuple[str, ...]]:
    """By component, the format of most weights first, and a sentence for each that is mixed."""
    left, parts = Names(found.left), dict[str, dict[Format, int]]()
    for one in matrices:
        form = _form_of(found, rules, left, one) or trained
        held = parts.setdefault(one.component, {})
        held[form] = held.get(form, 0) + one.elements
    return averaged(parts, trained)


def averaged(parts: Mapping[str, Mapping[Format, int]], trained: Format) -> tuple[Precision, tuple[str, ...]]:
    """The format of each component, of several their average; `trained`: of what is not among `parts`."""
    forms = {component: _average(held) for component, held in parts.items()}
    largest = max(parts, key=lambda component: sum(parts[component].values()))
    every = {**dict.fromkeys((*_TRAINED, "other"), trained), **forms}
    chosen = {name: form for name, form in every.items() if form != forms[largest]}
    notes = tuple(_mixture(name, held, forms[name]) for name, held in parts.items() if len(held) > 1)
    return Precision.parse({"default": forms[largest], **chosen}), notes


_DTYPES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8", "I8": "int8"}


def weighed(
    elements: Mapping[str, int], held: Mapping[str, Mapping[str, int]], stated: Precision
) -> tuple[Precision, tuple[str, ...]]:
    """The formats that bytes on disk show, by component and dtype; `stated` where they agree to 2 %.

    Small components (norms, router, other) follow what is stated. Nothing is believed of files that lack a
    component, or have more than 32 bits a weight of one.
    """
    wide = [part for part in elements if elements[part] and part not in ("norms", "router", "other", "tower")]
    bits = {part: 8 * sum(held.get(part, {}).values()) / elements[part] for part in wide}
    strange = next((part for part in wide if not 1 <= bits[part] <= 32), None)
    if strange is not None:
        return stated, (f"the formats are those of config.json: the files hold no {strange} of this size",)
    own: dict[str, Format] = {}
    for part in wide:
        said = float(stored(stated.of(part)).bits)
        if abs(bits[part] - said) > said / 50:
            most = max(held[part], key=lambda dtype: held[part][dtype])
            plain = _DTYPES.get(most, "int4" if bits[part] < 6 else "int8")
            exact = abs(float(stored(plain).bits) - bits[part]) < 0.01
            own[part] = plain if exact else f"{kind(plain)}@{bits[part]:.4g}"
    notes = tuple(
        f"{part}: {form} by the headers of the files, not {stated.of(part)}" for part, form in own.items()
    )
    return stated.model_copy(update=own), notes


def _average(held: Mapping[Format, int]) -> Format:
    """One format, or the average of several with the kernels of the most."""
    if len(held) == 1:
        return next(iter(held))
    bits = sum(stored(form).bits * many for form, many in held.items()) / Fraction(sum(held.values()))
    return f"{kind(max(held, key=lambda form: held[form]))}@{float(bits):.4g}"


def _mixture(component: str, held: Mapping[Format, int], form: Format) -> str:
    total = sum(held.values())
    shares = ", ".join(
        f"{form} {many / total:.0%}" for form, many in sorted(held.items(), key=lambda item: -item[1])
    )
    return f"{component}: {float(stored(form).bits):.3g} bits a weight on average ({shares})"


def _unused(found: Scheme, rules: Sequence[_Ruled], matrices: Sequence[Matrix]) -> tuple[str, ...]:
    """What a scheme names and the model does not have would be sized wrongly in silence."""
    missing = [
        rule
        for rule, (names, form) in zip(found.rules, rules, strict=True)
        if form and not any(names.name(one.name) for one in matrices)
    ]
    if not missing:
        return ()
    names = brief(missing[0].modules[0])
    return (f"quantization_config: names modules that are not known here ({names}); they are left out",)


def _generic(layers: object) -> list[Matrix]:
    """One matrix of each kind a layer, where nothing is known of the model."""
    many = layers if isinstance(layers, int) and 0 < layers <= 1000 else 1
    kinds = {
        **{f"self_attn.{one}_proj": "attention" for one in "qkvo"},
        **{f"mlp.experts.0.{one}_proj": "experts" for one in ("gate", "up", "down")},
        **{f"mlp.shared_experts.{one}_proj": "shared" for one in ("gate", "up", "down")},
        **{f"mlp.{one}_proj": "ffn" for one in ("gate", "up", "down")},
        **{"linear_attn.in_proj_qkv": "mixer", "linear_attn.out_proj": "mixer", "mlp.gate": "router"},
    }
    found = [Matrix("embed_tokens", "embedding", 1), Matrix("lm_head", "head", 1)]
    return found + [
        Matrix(f"layers.{layer}.{name}", part, 1) for layer in range(many) for name, part in kinds.items()
    ]
