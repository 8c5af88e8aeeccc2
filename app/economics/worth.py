"""Worth: dense-equivalent quality beside dense-equivalent time, a point a mixture.

Rows: `moe_core.scenario.worth`.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.figure import Figure, draw, largest, layers, paint, powers_of_two, times
from moe_core.report.text import many

SHAPES = {0: "square", 1: "triangle-up"}


def chart(rows: pd.DataFrame, tokens: int) -> Figure:
    """Above the line a mixture is as good as a wider dense layer than it takes the time of."""
    data = rows.assign(
        label=[f"{e}/{k}{f'+{s}' if s else ''}" for e, k, s in _columns(rows, "experts", "top_k", "shared")],
        sharing=["one shared expert" if shared else "no shared expert" for shared in rows["shared"]],
        good=rows["quality"].map(times),
        long=[f"{times(c)} ({times(a)} to {times(b)})" for c, a, b in _columns(rows, "cost", "low", "high")],
        stored=rows["held"].map(times),
    )
    ticks = powers_of_two([*rows["quality"], *rows["cost"], *rows["low"], *rows["high"], 1.0, 2.0])
    x, y = (_axis(alt.X, "cost", "takes as long as", ticks), _axis(alt.Y, "quality", "is as good as", ticks))
    tip = [
        alt.Tooltip("name:N"),
        alt.Tooltip("good:N", title="as good as, × active width"),
        alt.Tooltip("long:N", title="takes as long as, × active width"),
        alt.Tooltip("stored:N", title="stored, × active width"),
    ]
    spread = paint(alt.Chart(data).mark_rule(strokeWidth=1, opacity=0.5), "mixture", stroke=True)
    spread = spread.encode(x=_axis(alt.X, "low", "takes as long as", ticks), x2="high:Q", y=y)
    dots = paint(alt.Chart(data).mark_point(filled=True, size=80, opacity=1), "mixture")
    dots = dots.encode(x=x, y=y, shape=_shapes(), tooltip=tip)
    named = alt.Chart(data[[_unbeaten(rows, at) for at in range(len(rows))]])
    word = paint(named.mark_text(align="right", dx=-6, dy=-8), "ink").encode(x=x, y=y, text="label:N")
    title = _title(rows, tokens)
    words = (
        "Dense width that is as good over dense width that takes as long, both over the active width, "
        f"a point a mixture. {title}."
    )
    return draw(title, words, layers(*_even(ticks), spread, dots, word, height=420), rows)


def _unbeaten(rows: pd.DataFrame, at: int) -> bool:
    """Whether no other mixture is both better and faster."""
    mine = rows.iloc[at]
    return not bool(((rows["quality"] > mine["quality"]) & (rows["cost"] < mine["cost"])).any())


def _columns(rows: pd.DataFrame, *names: str) -> zip[tuple[float, ...]]:
    return zip(*(rows[name] for name in names), strict=True)


def _axis(channel: type[alt.X] | type[alt.Y], field: str, what: str, ticks: list[int]) -> alt.X | alt.Y:
    scale = alt.Scale(type="log", base=2, domain=[ticks[0], ticks[-1]], nice=False)
    axis = alt.Axis(values=ticks, format=".3~g")
    return channel(f"{field}:Q", title=f"{what} a dense width, × active width", scale=scale, axis=axis)


def _shapes() -> alt.Shape:
    names = ["no shared expert", "one shared expert"]
    scale = alt.Scale(domain=names, range=list(SHAPES.values()))
    legend = alt.Legend(orient="top", title=None, symbolStrokeColor="gray", symbolFillColor="gray")
    return alt.Shape("sharing:N", scale=scale, legend=legend)


def _even(ticks: list[int]) -> list[alt.Chart]:
    """The line on which a mixture is as good as what it takes the time of."""
    ends = pd.DataFrame({"cost": [ticks[0], ticks[-1]], "quality": [ticks[0], ticks[-1]]})
    x, y = (_axis(alt.X, "cost", "takes as long as", ticks), _axis(alt.Y, "quality", "is as good as", ticks))
    line = paint(alt.Chart(ends).mark_line(strokeDash=[5, 4], strokeWidth=1.2), "limit", stroke=True)
    above = ends.tail(1).assign(words="above: better than a dense model that takes as long")
    word = paint(alt.Chart(above).mark_text(align="right", dx=-12, dy=-4, fontStyle="italic"), "limit")
    return [line.encode(x=x, y=y), word.encode(x=x, y=y, text="words:N")]


def _title(rows: pd.DataFrame, tokens: int) -> str:
    best = largest(rows.assign(worth=rows["quality"] / rows["cost"]), "worth")
    ways = (
        f"is as good as {times(best['quality'])} and takes as long as {times(best['cost'])} its active width"
    )
    at = f"At {many(tokens, 'tokens')} at once" if tokens > 1 else "At one token"
    if len(rows) == 1:
        return f"{at}, {best['name']} {ways}"
    better = int((rows["quality"] > rows["cost"]).sum())
    beaten = f"{better} of {len(rows)} mixtures beat the dense layer that takes as long"
    return f"{at} {beaten}; the best, {best['name']}, {ways}"
