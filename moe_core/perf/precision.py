"""Mixes of formats as they are published: which tensors stay in 16 bits is part of a mix."""

from __future__ import annotations

from moe_core.formats import BITS, GGUF, KINDS, Format, Kind, group, kind, size, stored, width
from moe_core.specs import Precision

__all__ = [
    "BITS",
    "GGUF",
    "KINDS",
    "MIXES",
    "Format",
    "Kind",
    "Precision",
    "group",
    "kind",
    "size",
    "stored",
    "width",
]

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
}
