"""The formats a checkpoint is stored in, from `quantization_config` of its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moe_core.perf.precision import Format, Precision

_KEPT: dict[str, Format] = {"embedding": "bf16", "head": "bf16", "router": "bf16", "norms": "bf16"}


def published(config: Mapping[str, Any]) -> tuple[Precision, str | None]:
    """(formats by component, a note for the user). bf16 throughout where nothing is quantised.

    Embedding, head, router and norms stay in 16 bits in every published scheme read here.
    """
    stated = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(stated, dict):
        return Precision(default=_plain(config)), None
    method = str(stated.get("quant_method", "")).lower()
    if method == "mxfp4":
        return Precision(experts="mxfp4"), "experts stored in mxfp4, the rest in bf16"
    form = _format(method, stated)
    if form is None:
        return (
            Precision(),
            f"quantization_config ({method or 'no quant_method'}): not understood, sized as bf16",
        )
    return Precision.parse(
        {"default": form, **_KEPT}
    ), f"stored in {form}; embedding, head, router, norms in bf16"


def _plain(config: Mapping[str, Any]) -> Format:
    stated = str(config.get("dtype") or config.get("torch_dtype") or "").removeprefix("torch.")
    return {"float32": "fp32", "float16": "fp16"}.get(stated, "bf16")  # type: ignore[return-value]


def _format(method: str, stated: Mapping[str, Any]) -> Format | None:
    if method == "fp8":
        return "fp8_block" if stated.get("weight_block_size") else "fp8"
    if method in ("gptq", "awq", "auto-round", "hqq"):
        return _integer(stated.get("bits"))
    if method == "bitsandbytes":
        return "int4" if stated.get("load_in_4bit") else "int8"
    if method == "modelopt" or "quant_algo" in stated:
        return _named(str(stated.get("quant_algo", "")))
    if method == "compressed-tensors":
        return _compressed(stated)
    return None


def _integer(bits: object) -> Format | None:
    return {4: "int4", 8: "int8"}.get(bits) if isinstance(bits, int) else None  # type: ignore[return-value]


def _named(algorithm: str) -> Format | None:
    known: dict[str, Format] = {"NVFP4": "nvfp4", "FP8": "fp8", "MXFP4": "mxfp4", "W4A16_AWQ": "int4"}
    return next((form for name, form in known.items() if name in algorithm.upper()), None)


def _compressed(stated: Mapping[str, Any]) -> Format | None:
    """compressed-tensors: the weights of the first group speak for all."""
    groups = stated.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    if not isinstance(weights, dict):
        return None
    if weights.get("type") == "float":
        return {8: "fp8", 4: "nvfp4"}.get(int(weights.get("num_bits") or 0))  # type: ignore[return-value]
    return _integer(weights.get("num_bits"))
