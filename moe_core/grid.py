"""Grid: the mixtures that ship, trained from scratch and alike, and the dense models they are held against.

Experts have one width, so that a knob means what it means in a published model: more experts are more bytes
and the same work, a larger top-k is more work and the same bytes. The dense models are a ladder of doublings:
a mixture with k of E experts does the work of the dense model of width k * WIDTH and has the bytes of that of
width E * WIDTH, both of which are on it; with a shared expert, it lies between two rungs.
How they were trained stands in data/models/train_grid.py. No torch here.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from math import log2
from pathlib import Path
from typing import NamedTuple

from moe_core.settings import MODELS
from moe_core.specs import GQA, Architecture, Experts, Router

FOLDER = MODELS / "grid"
WIDTH = 16  # of an expert
COUNTS, TOP_K, SHARED = (4, 8, 16, 32, 64), (1, 2, 4, 8), (0, 1)
LADDER = tuple(WIDTH * 2**n for n in range(7))  # 16 ... 1024
LONGEST = 1024  # bytes of a sequence
ALIKE = 1.07  # widths as near as that are told as equal where there is nothing to go between
FIRST = (  # of what is trained: what the published mixtures of the registry are nearest to, and around them
    *((16, 4, 1), (64, 4, 0), (8, 2, 0), (64, 2, 1), (16, 4, 0), (64, 8, 0), (16, 2, 0), (64, 2, 0)),
    *((32, 4, 0), (64, 1, 0), (16, 1, 0), (8, 1, 0), (64, 8, 1), (32, 8, 0), (64, 4, 1)),
)
FIRST_DENSE = (64, 256, 32, 128, 1024, 512, 16)


class Member(NamedTuple):
    """One model of the grid: a mixture, or (experts 0) a dense model of `width`."""

    experts: int
    top_k: int
    shared: int
    width: int = WIDTH

    @property
    def name(self) -> str:
        if not self.experts:
            return f"dense-{self.width}"
        return f"e{self.experts}-k{self.top_k}-s{self.shared}"

    @property
    def path(self) -> Path:
        """Where it is shipped."""
        return FOLDER / f"{self.name}.safetensors"

    @property
    def active(self) -> int:
        """Feed-forward neurons that a token uses, a layer."""
        return self.width if not self.experts else (self.top_k + self.shared) * self.width

    @property
    def total(self) -> int:
        """Feed-forward neurons that are stored, a layer."""
        return self.width if not self.experts else (self.experts + self.shared) * self.width


def title(member: Member) -> str:
    """`16 experts, top-4, 1 shared`, or `dense, 64 neurons`."""
    if not member.experts:
        return f"dense, {member.width} neurons"
    shared = f", {member.shared} shared" if member.shared else ""
    return f"{member.experts} experts, top-{member.top_k}{shared}"


def mixtures() -> tuple[Member, ...]:
    """Every mixture: top-k below the number of experts, or nothing would be chosen."""
    return tuple(Member(e, k, s) for e in COUNTS for k in TOP_K for s in SHARED if k < e)


def ladder() -> tuple[Member, ...]:
    """The dense models, smallest first."""
    return tuple(Member(0, 0, 0, width) for width in LADDER)


def in_order_of_use() -> tuple[Member, ...]:
    """What is trained first: what is asked for most, dense models among them, then the rest.

    At most a quarter of the experts active comes before more, since no published mixture has more.
    """
    first = [Member(*one) for one in FIRST]
    dense = [Member(0, 0, 0, width) for width in FIRST_DENSE]
    mixed = [one for pair in zip(first, dense, strict=False) for one in pair] + first[len(dense) :]
    rest = [one for one in mixtures() if one not in mixed]
    return tuple(mixed + sorted(rest, key=lambda one: 4 * one.top_k > one.experts))


def shipped() -> tuple[Member, ...]:
    """The mixtures whose file is there, with those of the dense models they are held against."""
    return tuple(
        member for member in mixtures() if all(one.path.exists() for one in (member, *twins(member)))
    )


def nearest(bank: tuple[int, int, int]) -> Member | None:
    """The shipped mixture most like (experts, top-k, shared); None when none is shipped.

    Beyond the largest the share of active experts is kept. Doublings of experts and of top-k count alike, a
    shared expert more or less counts half of one.
    """
    experts, top_k, shared = bank
    if experts > COUNTS[-1]:
        experts, top_k = COUNTS[-1], max(1, round(top_k * COUNTS[-1] / experts))
    wanted = (experts, top_k, min(shared, SHARED[-1]))
    return min(shipped(), key=lambda member: _distance(wanted, member), default=None)


def _distance(wanted: tuple[int, int, int], member: Member) -> float:
    experts, top_k, shared = wanted
    doublings = abs(log2(experts / member.experts)) + abs(log2(top_k / member.top_k))
    return doublings + 0.5 * abs(shared - member.shared)


def twins(member: Member) -> tuple[Member, Member]:
    """The dense models of equal total and of equal active size: the nearest rung each."""
    return _rung(member.total), _rung(member.active)


class ShippedBits(NamedTuple):
    """Bits per byte of held-out text, over cold windows of 256 (`short`) and of 1024 bytes (`long`)."""

    short: float
    long: float


@cache
def scores() -> dict[Member, ShippedBits]:
    """The score of every shipped model, dense ones among them, from the log of its training.

    `python data/models/train_grid.py --score` reproduces them within 0.002.
    """
    return {one: _score(one) for one in (*ladder(), *mixtures()) if one.path.exists()}


def _score(member: Member) -> ShippedBits:
    lines = member.path.with_suffix(".log").read_text(encoding="utf-8").splitlines()
    found = next(event for event in map(json.loads, reversed(lines)) if event["event"] == "heldout")
    return ShippedBits(*(float(found["int8"][str(length)]) for length in (256, LONGEST)))


def dense_bits(neurons: int) -> float | None:
    """Bits per byte of a dense model of so many feed-forward neurons a layer, between two rungs.

    Linear in the logarithm of the width. None where no rung is trained on either side, nor one as wide to
    within `ALIKE`.
    """
    rungs = _rungs()
    for (narrow, worse), (wide, better) in pairwise(rungs):
        if narrow <= log2(neurons) <= wide:
            return worse + (better - worse) * (log2(neurons) - narrow) / (wide - narrow)
    alike = (bits for width, bits in rungs if abs(width - log2(neurons)) <= log2(ALIKE))
    return next(alike, None)


def _rungs() -> list[tuple[float, float]]:
    """log2 of the width and bits per byte of every rung that is trained, narrowest first."""
    known = scores()
    return [(log2(one.width), known[one].short) for one in ladder() if one in known]


def dense_equivalent(member: Member) -> float | None:
    """Feed-forward neurons a layer of a dense model that is exactly as good, between two trained rungs.

    Linear in the logarithm of the width. None for what is better or worse than every rung that is trained.
    """
    known = scores()
    if member not in known:
        return None
    bits = known[member].short
    for (narrow, worse), (wide, better) in pairwise(_rungs()):
        if better <= bits <= worse and better < worse:
            return float(2 ** (narrow + (wide - narrow) * (worse - bits) / (worse - better)))
    return None


def _rung(neurons: int) -> Member:
    return min(ladder(), key=lambda member: abs(log2(member.width / neurons)))


def architecture(member: Member) -> Architecture:
    """What a member is."""
    common: dict[str, object] = {
        "name": f"grid-{member.name}",
        "hidden": 96,
        "layers": 3,
        "vocab": 256,
        "attention": GQA(heads=4, kv_heads=2, head_dim=24),
        "tied": True,
        "max_positions": LONGEST,
    }
    if not member.experts:
        return Architecture(ffn_width=member.width, **common)  # type: ignore[arg-type]
    router = Router(kind="sigmoid", renormalise=False, selection_bias=True)
    experts = Experts(
        count=member.experts, top_k=member.top_k, width=member.width, shared=member.shared, router=router
    )
    return Architecture(experts=experts, **common)  # type: ignore[arg-type]
