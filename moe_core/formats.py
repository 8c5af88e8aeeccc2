"""Formats of stored numbers: bits per element, scales and zero points included, and what multiplies them.

A format is a word: one of `BITS`; a block type of GGUF (`GGUF`); a base with its groups,
`int4-g64+32` (32 bits of scales and zero points for each group of 64) or with its average, `int4@4.65`.

Scales of the plain words: int4 one fp16 scale per 128 elements (GPTQ, AWQ, symmetric); mxfp4 one 8-bit
exponent per 32 (OCP microscaling 1.0, section 5.3); nvfp4 one fp8 scale per 16 (NVIDIA, the per-tensor fp32
scale ignored); fp8_block one fp32 scale per 128 x 128 (DeepSeek-V3, arXiv 2412.19437, section 3.3). Plain fp8
and int8 have one scale per tensor or row: under 0.1 %, ignored.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import AfterValidator

Kind = Literal["fp32", "bf16", "fp16", "fp8", "fp8_block", "int8", "int4", "mxfp4", "nvfp4"]
KINDS: tuple[Kind, ...] = get_args(Kind)  # what kernels were timed with


class Stored(NamedTuple):
    """What a format's word means. `group`: weights that share a scale along a row, None where a row does."""

    kind: Kind
    bits: Fraction
    group: int | None = None


_PLAIN: dict[str, Stored] = {
    "fp32": Stored("fp32", Fraction(32)),
    "bf16": Stored("bf16", Fraction(16)),
    "fp16": Stored("fp16", Fraction(16)),
    "fp8": Stored("fp8", Fraction(8)),
    "fp8_block": Stored("fp8_block", 8 + Fraction(32, 128 * 128), 128),
    "int8": Stored("int8", Fraction(8)),
    "int4": Stored("int4", 4 + Fraction(16, 128), 128),
    "mxfp4": Stored("mxfp4", 4 + Fraction(8, 32), 32),
    "nvfp4": Stored("nvfp4", 4 + Fraction(8, 16), 16),
}
# Elements and bytes of a block (llama.cpp, ggml-common.h; the gguf package's GGML_QUANT_SIZES).
_BLOCKS: dict[str, tuple[int, int]] = {
    **{"q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34)},
    **{"q2_k": (256, 84), "q3_k": (256, 110), "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210)},
    **{"iq2_xxs": (256, 66), "iq2_xs": (256, 74), "iq2_s": (256, 82), "iq3_xxs": (256, 98)},
    **{"iq3_s": (256, 110), "iq1_s": (256, 50), "iq1_m": (256, 56), "iq4_nl": (32, 18), "iq4_xs": (256, 136)},
    **{"tq1_0": (256, 54), "tq2_0": (256, 66), "q8_k": (256, 292), "q1_0": (128, 18)},
}
_GROUPED = re.compile(r"(int[2-8]|nf4|fp[468])-g([1-9]\d{0,4})\+(\d{1,3}(?:\.\d{1,4})?)")
_AVERAGE = re.compile(rf"({'|'.join(KINDS)}|int[2-8])@(\d{{1,2}}(?:\.\d{{1,4}})?)")


@lru_cache(maxsize=4096)
def stored(form: str) -> Stored:
    """What `form` means. Raises ValueError: the rule."""
    if form in _PLAIN:
        return _PLAIN[form]
    if form in _BLOCKS:
        elements, nbytes = _BLOCKS[form]
        bits = Fraction(8 * nbytes, elements)
        return Stored("int4" if bits < 6 else "int8", bits, elements)
    if match := _GROUPED.fullmatch(form):
        base, group = match.group(1), int(match.group(2))
        width = int(base[-1])
        return Stored(_kind(base), width + Fraction(match.group(3)) / group, group)
    if (match := _AVERAGE.fullmatch(form)) and 1 <= float(match.group(2)) <= 32:
        return Stored(_kind(match.group(1)), Fraction(match.group(2)))
    raise ValueError(
        f"must be one of {', '.join(_PLAIN)}, a block type of GGUF, or as in int4-g64+32, int4@4.65"
    )


def _kind(base: str) -> Kind:
    """The kernels that run a base: up to four bits are widened as int4 is."""
    if base in KINDS:
        return base
    if base == "fp6":
        return "fp8"
    return "int4" if int(base[-1]) <= 4 else "int8"


def _known(form: str) -> str:
    stored(form)
    return form


Format = Annotated[str, AfterValidator(_known)]
BITS: dict[str, Fraction] = {form: found.bits for form, found in _PLAIN.items()}
GGUF = tuple(_BLOCKS)


def kind(form: Format) -> Kind:
    """The kernels that weights in `form` are multiplied by."""
    return stored(form).kind


def group(form: Format) -> int | None:
    """Weights of a row that share a scale; None where all of it does."""
    return stored(form).group


@lru_cache(maxsize=4096)
def width(form: Format) -> float:
    """Bytes of one stored element, scales included."""
    return float(stored(form).bits) / 8


def size(elements: float, form: Format) -> int:
    """Bytes of `elements` stored in `form`, scales included, rounded up."""
    if elements == int(elements):  # the usual case, without the cost of fractions
        over, under = _ratio(form)
        return -(-int(elements) * over // under)
    return ceil(Fraction(elements) * stored(form).bits / 8)


@lru_cache(maxsize=4096)
def _ratio(form: Format) -> tuple[int, int]:
    """Bytes of one stored element as a fraction of whole numbers."""
    bits = stored(form).bits
    return bits.numerator, 8 * bits.denominator
