"""Grid: the mixtures that ship, trained alike, against dense models of equal active and equal total size."""

from __future__ import annotations

from typing import Literal

import altair as alt
import pandas as pd

from app.figure import Figure, draw, largest, layers, log2_axis, roles, shapes
from moe_core import grid
from moe_core.grid import Member
from moe_core.report.text import many
from moe_core.units import significant

Unit = Literal["work", "bytes"]
AXES: dict[Unit, str] = {
    "work": "feed-forward neurons a token uses, a layer",
    "bytes": "feed-forward neurons stored, a layer",
}


def rows() -> pd.DataFrame:
    """name, role, experts, top_k, shared, work, bytes (neurons a layer), bits, and those of dense models.

    `equal_work`, `equal_bytes`: bits of a dense model as wide, between the rungs of the ladder, NaN while
    they are not trained; `equivalent`: neurons of the dense model that is as good, NaN beyond the rungs.
    """
    bits = {member: score.short for member, score in grid.scores().items()}
    found = [_row(member, bits) for member in bits]
    return pd.DataFrame(found).sort_values(["role", "experts", "top_k", "shared", "work"], ignore_index=True)


def _row(member: Member, bits: dict[Member, float]) -> dict[str, object]:
    mixture = bool(member.experts)
    return {
        "name": grid.title(member),
        "role": "mixture" if mixture else "dense",
        **{"experts": member.experts, "top_k": member.top_k, "shared": member.shared},
        **{"work": member.active, "bytes": member.total, "bits": bits[member]},
        "equal_work": grid.dense_bits(member.active) if mixture else None,
        "equal_bytes": grid.dense_bits(member.total) if mixture else None,
        "equivalent": grid.dense_equivalent(member) if mixture else None,
    }


def compared(mixtures: pd.DataFrame) -> pd.DataFrame:
    """name, work, bytes, bits; less than those of dense models of equal active and total size; equivalent."""
    bits = mixtures["bits"]
    found = mixtures.assign(active=bits - mixtures["equal_work"], total=bits - mixtures["equal_bytes"])
    return found[["name", "work", "bytes", "bits", "active", "total", "equivalent"]]


def sentence(table: pd.DataFrame) -> str:
    """Which mixtures beat which dense model, as far as both are trained."""
    mixtures = table[table["role"] == "mixture"]
    if mixtures.empty:
        return "No mixture of the grid is trained in this version"
    said = []
    for twin, words in (("equal_work", "equal active size"), ("equal_bytes", "equal total size")):
        known = mixtures.dropna(subset=[twin])
        if len(known):
            better = int((known["bits"] < known[twin]).sum())
            said.append(f"{better} of {len(known)} beat the dense model of {words}")
    trained = f"{many(len(mixtures), 'mixtures')} trained alike, one seed each"
    return f"{trained}: {' and '.join(said)}" if said else f"{trained}; their dense models are still missing"


def chart(table: pd.DataFrame, unit: Unit) -> Figure:
    """Bits per byte over work or bytes: the dense ladder a line, mixtures points."""
    x = log2_axis(unit, AXES[unit], table[unit].tolist())
    y = alt.Y("bits:Q", title="bits per byte, lower is better", scale=alt.Scale(zero=False))
    tip = ["name:N", alt.Tooltip("bits:Q", format=".3f"), alt.Tooltip(f"{unit}:Q", title="neurons")]
    dense = alt.Chart(table[table["role"] == "dense"])
    line = dense.mark_line(strokeWidth=2).encode(x=x, y=y, color=roles("role"))
    dots = alt.Chart(table).mark_point(filled=True, size=70, opacity=1)
    points = dots.encode(x=x, y=y, color=roles("role"), shape=shapes("role"), tooltip=tip)
    title = _title(table, unit)
    words = (
        f"Bits per byte of held-out text over {AXES[unit]}, dense models and mixtures trained alike. {title}."
    )
    return draw(title, words, layers(line, points, height=340), table)


def _title(table: pd.DataFrame, unit: Unit) -> str:
    mixtures = table[table["role"] == "mixture"]
    best = largest(table.assign(good=-table["bits"]), "good")
    if mixtures.empty:
        return f"The dense ladder: {best['name']} reaches {significant(best['bits'], 4)} bits per byte"
    twin, words = ("equal_work", "as much work") if unit == "work" else ("equal_bytes", "as many bytes")
    known = mixtures.dropna(subset=[twin])
    if known.empty:
        return f"The best, {best['name']}, reaches {significant(best['bits'], 4)} bits per byte"
    gain = known[twin] - known["bits"]
    subject = "Mixtures are" if len(known) > 1 else f"{known['name'].iloc[0]}: this mixture is"
    return f"{subject} {_span(gain.min(), gain.max())} than a dense model with {words}"


def _span(least: float, most: float) -> str:
    """`0.122 to 0.296 bits per byte better`, or how much worse and better."""
    if least >= 0 or most <= 0:
        near, far = sorted(f"{abs(gain):.3f}" for gain in (least, most))
        amount = near if near == far else f"{near} to {far}"
        return f"{amount} bits per byte {'better' if least >= 0 else 'worse'}"
    return f"between {-least:.3f} bits per byte worse and {most:.3f} better"
