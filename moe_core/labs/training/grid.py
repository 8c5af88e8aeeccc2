"""Grid: the mixtures that ship, trained from scratch and alike, and the dense models they are held against.

Experts have one width, so that a knob means what it means in a published model: more experts are more bytes
and the same work, a larger top-k is more work and the same bytes. The dense models are a ladder of doublings:
a mixture with k of E experts does the work of the dense model of width k * WIDTH and has the bytes of that of
width E * WIDTH, both of which are on it (with a shared expert, between two rungs).
Legend: E experts, K top-k.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from moe_core.labs.training.balancing import Balancing
from moe_core.labs.training.loop import Recipe
from moe_core.settings import MODELS
from moe_core.specs import GQA, Architecture, Experts, Router

FOLDER = MODELS / "grid"
WIDTH = 16  # of an expert
TOKENS = 4096  # of a step
SHORT, LONG, EVERY = 256, 1024, 10  # bytes of a sequence; every tenth step reads long ones
STEPS = 5000  # 20.5 million bytes of text, a little over two epochs
SEED = 0
RECIPE = Recipe(steps=STEPS, peak=4e-3, balancing=Balancing(auxiliary=1e-3, rule="sign", rate=2e-3))


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


COUNTS, TOP_K, SHARED = (4, 8, 16, 32, 64), (1, 2, 4, 8), (0, 1)
LADDER = tuple(WIDTH * 2**n for n in range(7))  # 16 ... 1024


def mixtures() -> tuple[Member, ...]:
    """Every mixture: top-k below the number of experts, or nothing would be chosen."""
    return tuple(Member(e, k, s) for e in COUNTS for k in TOP_K for s in SHARED if k < e)


def ladder() -> tuple[Member, ...]:
    """The dense models, smallest first."""
    return tuple(Member(0, 0, 0, width) for width in LADDER)


def in_order_of_use() -> tuple[Member, ...]:
    """What is trained first: the default and what stands around it, then the rest; dense twins among them."""
    order = [(16, 4, 1), (16, 4, 0), (8, 2, 0), (64, 8, 0), (32, 4, 0), (16, 2, 0), (16, 1, 0), (64, 4, 0)]
    order += [(64, 8, 1), (8, 1, 0), (32, 8, 0), (16, 8, 0), (64, 2, 0), (32, 2, 0), (8, 4, 0), (64, 1, 0)]
    first = [Member(*one) for one in order]
    dense = [Member(0, 0, 0, width) for width in (64, 256, 128, 32, 1024, 512, 16)]
    mixed = [one for pair in zip(first, dense, strict=False) for one in pair] + first[len(dense) :]
    return tuple(mixed + [one for one in mixtures() if one not in mixed])


def architecture(member: Member) -> Architecture:
    """What a member is."""
    common: dict[str, object] = {
        "name": f"grid-{member.name}",
        "hidden": 96,
        "layers": 3,
        "vocab": 256,
        "attention": GQA(heads=4, kv_heads=2, head_dim=24),
        "tied": True,
        "max_positions": LONG,
    }
    if not member.experts:
        return Architecture(ffn_width=member.width, **common)  # type: ignore[arg-type]
    router = Router(kind="sigmoid", renormalise=False, selection_bias=True)
    experts = Experts(
        count=member.experts, top_k=member.top_k, width=member.width, shared=member.shared, router=router
    )
    return Architecture(experts=experts, **common)  # type: ignore[arg-type]
