"""What a user asks weights to be in: as stored, one format, or a published mix of them by component."""

from __future__ import annotations

from moe_core.errors import ConfigError
from moe_core.formats import BITS, Format, stored
from moe_core.specs import Precision

STORED = "stored"  # as its makers publish it: the default everywhere


def _file(
    base: Format,
    attention: Format | None = None,
    ffn: Format | None = None,
    head: Format = "q6_k",
    **more: Format,
) -> Precision:
    wide = {"ffn": ffn, "experts": ffn, "shared": ffn, "attention": attention, "mixer": attention}
    return Precision(default=base, head=head, router="fp32", norms="fp32", **{**wide, **more})


# What llama-quantize writes, by the name of its file type (llama.cpp, src/llama-quant.cpp): attn_v,
# attn_output and ffn_down have more bits, some of them in the first and last layers only. Averages over the
# components of a model with four query heads a key and a head of its own; below four bits with an importance
# matrix. They give Llama-3.1-8B the bits a weight of tools/quantize/README.md.
FILES: dict[str, Precision] = {
    "Q8_0": _file("q8_0", head="q8_0"),
    "Q6_K": _file("q6_k"),
    "Q5_K_M": _file("q5_k", "int4@5.553", "int4@5.677"),
    "Q5_K_S": _file("q5_k"),
    "Q4_K_M": _file("q4_k", "int4@4.603", "int4@4.844"),
    "Q4_K_S": _file("q4_k", "int4@4.513", "int4@4.542"),
    "IQ4_NL": _file("iq4_nl", "int4@4.6", "int4@4.542"),
    "IQ4_XS": _file("iq4_xs", "int4@4.375", "int4@4.302"),
    "Q3_K_L": _file("q3_k", "int4@4.469", "int4@4.125"),
    "Q3_K_M": _file("q3_k", "int4@3.975", "int4@3.8125"),
    "Q3_K_S": _file("q3_k"),
    "IQ3_M": _file("iq3_s", "int4@3.969", "int4@3.482"),
    "IQ3_XXS": _file("iq3_xxs", "int4@3.106", head="q5_k", embedding="iq3_s"),
    "Q2_K": _file("q2_k", "int4@3.1375", "int4@2.896"),
    "IQ2_M": _file("iq2_s", "int4@3.106", "int4@2.599", head="q5_k", embedding="iq3_s"),
    "IQ2_XS": _file("iq2_xs", "int4@2.531", "int4@2.3255", head="q5_k", embedding="q2_k"),
    "IQ2_XXS": _file("iq2_xxs", "int4@2.306", "int4@2.0859", head="q5_k", embedding="q2_k"),
    "IQ1_M": _file("iq1_m", "int4@2.15", "int4@1.7865", head="q5_k", embedding="q2_k"),
    "IQ1_S": _file("iq1_s", "int4@2.0563", "int4@1.6068", head="q5_k", embedding="q2_k"),
    "MXFP4_MOE": Precision(default="q8_0", experts="mxfp4", router="fp32", norms="fp32"),
}
MIXES: dict[str, Precision] = {
    "bf16": Precision(),
    "fp8": Precision(default="fp8"),
    "int8": Precision(default="int8"),
    "int4": Precision(default="int4"),
    "gpt-oss (mxfp4 experts)": Precision(experts="mxfp4"),
    "DeepSeek-V3 (fp8 blocks)": Precision(
        default="fp8_block", embedding="bf16", head="bf16", router="bf16", norms="bf16"
    ),
    "nvfp4 experts, fp8 rest": Precision(
        default="fp8", experts="nvfp4", embedding="bf16", head="bf16", router="bf16", norms="bf16"
    ),
    "int4 experts, bf16 rest": Precision(experts="int4"),
    **{name: FILES[name] for name in ("Q4_K_M", "Q5_K_M", "IQ4_XS")},
}


def asked(word: str, field: str = "precision") -> Precision | None:
    """What a word asks for: a format or a mix; None as stored. Raises ConfigError."""
    if word in (STORED, "auto"):
        return None
    mix = MIXES.get(word) or FILES.get(word.upper())
    if mix is not None:
        return mix
    try:
        stored(word)
    except ValueError as error:
        forms, mixes = ", ".join(BITS), ", ".join(list(MIXES)[4:])
        rule = (
            f"must be {STORED}, a format ({forms}, a type of GGUF, or as in int4-g64+32) or a mix ({mixes})"
        )
        raise ConfigError(f"{field} ({word[:40]}): {rule}") from error
    return Precision(default=word)


def asked_cache(word: str, field: str = "kv") -> Format | None:
    """The format of a cache that a word asks for; None as stored. Raises ConfigError."""
    found = asked(word, field)
    if found is not None and found != Precision(default=found.default):
        raise ConfigError(f"{field} ({word}): must be one format, not a mix")
    return None if found is None else found.default


def words(precision: Precision) -> str:
    """`mxfp4, but embedding, head and attention in bf16`. Norms are too small to be worth a word."""
    others: dict[Format, list[str]] = {}
    for name, form in precision.model_dump(exclude_none=True).items():
        if name not in ("default", "norms", "other", "tower") and form != precision.default:
            others.setdefault(form, []).append(name)
    parts = [f"{listed(names)} in {form}" for form, names in others.items()]
    return f"{precision.default}, but {listed(parts)}" if parts else precision.default


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
