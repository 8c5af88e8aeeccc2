"""Number formats: bits per stored element, scales included, and mixes of them by component.

Scales: int4 one fp16 scale per 128 elements (GPTQ, AWQ, symmetric); mxfp4 one 8-bit exponent per 32
(OCP microscaling 1.0, section 5.3); nvfp4 one fp8 scale per 16 (NVIDIA, the per-tensor fp32 scale
ignored); fp8_block one fp32 scale per 128 x 128 (DeepSeek-V3, arXiv 2412.19437, section 3.3). Plain
fp8 and int8 have one scale per tensor or row: under 0.1 %, ignored.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Literal

from moe_core.specs import Spec

Format = Literal["fp32", "bf16", "fp16", "fp8", "fp8_block", "int8", "int4", "mxfp4", "nvfp4"]

BITS: dict[Format, Fraction] = {
    "fp32": Fraction(32),
    "bf16": Fraction(16),
    "fp16": Fraction(16),
    "fp8": Fraction(8),
    "fp8_block": 8 + Fraction(32, 128 * 128),
    "int8": Fraction(8),
    "int4": 4 + Fraction(16, 128),
    "mxfp4": 4 + Fraction(8, 32),
    "nvfp4": 4 + Fraction(8, 16),
}


_BYTES = {form: (bits.numerator, 8 * bits.denominator) for form, bits in BITS.items()}
_WIDTHS = {form: float(bits) / 8 for form, bits in BITS.items()}


def width(form: Format) -> float:
    """Bytes of one stored element, scales included."""
    return _WIDTHS[form]


def size(elements: float, form: Format) -> int:
    """Bytes of `elements` stored in `form`, scales included, rounded up."""
    if elements == int(elements):  # the usual case, without the cost of fractions
        above, below = _BYTES[form]
        return -(-int(elements) * above // below)
    return ceil(Fraction(elements) * BITS[form] / 8)


class Precision(Spec):
    """The format of the weights, and of the components that differ from it."""

    default: Format = "bf16"
    embedding: Format | None = None
    head: Format | None = None
    attention: Format | None = None
    ffn: Format | None = None
    experts: Format | None = None
    shared: Format | None = None
    router: Format | None = None
    norms: Format | None = None
    mixer: Format | None = None
    other: Format | None = None

    def of(self, component: str) -> Format:
        """The format of `component`, a field of `params.Breakdown`."""
        chosen: Format | None = getattr(self, component)
        return chosen or self.default


# Mixes as published: which tensors stay in 16 bits is part of the format.
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
