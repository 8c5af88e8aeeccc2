"""Dense-equivalent: the width of the dense network that takes as long as a mixture layer, over tokens.

`rows`: series, kind (measured elsewhere | modelled | measured here), tokens, width, low, high, beyond, and
the active and total width of the layer that each series belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import altair as alt
import pandas as pd

from app.figure import Figure, draw, largest, log2_axis, paint, times

Unit = Literal["active", "total"]
SHAPES = {
    "measured elsewhere": ("circle", "square"),
    "modelled": ("triangle-up", "triangle-down"),
    "measured here": ("diamond",),
}
_CLOSE = 1.35  # lines nearer than this share one label


def curve(
    rows: pd.DataFrame, lines: Mapping[str, float], here: Mapping[str, int], unit: Unit = "active"
) -> Figure:
    """Measured as points, predicted dashed with its band, this device solid; grey lines are what people say.

    `lines`: name -> width of the main layer.  `here`: what is asked -> tokens.
    """
    data = _multiples(rows, unit)
    base_width = float(data.iloc[0][unit])
    x = log2_axis("tokens", "tokens in the layer at once", data["tokens"].tolist())
    ticks = _powers(data, [width / base_width for width in lines.values()])
    y = alt.Y(
        "multiple:Q",
        title=f"dense width that takes as long, × {unit} width",
        scale=alt.Scale(type="log", base=2, domain=[ticks[0], ticks[-1]], nice=False),
        axis=alt.Axis(values=ticks, format=".3~g"),
    )
    tip = [
        alt.Tooltip("series:N"),
        alt.Tooltip("tokens:Q", format=","),
        alt.Tooltip("text:N", title="takes as long as"),
    ]
    layers = [*_lines(lines, base_width, x, y), *_here(here, x)]
    shape = _shapes(data)
    for _, part in data.groupby("series", sort=False):
        layers += _series(part, str(part["kind"].iloc[0]), x, y, shape, tip)
    title = _title(data)
    words = (
        f"Width of the dense network that takes as long as the mixture layer. Points are measured elsewhere, "
        f"dashed is modelled with its interval, diamonds are measured on this device. {title}."
    )
    return draw(title, words, alt.layer(*layers).properties(height=460), rows)


def _multiples(rows: pd.DataFrame, unit: Unit) -> pd.DataFrame:
    size = rows[unit]
    text = [
        f"{times(w / a)} active, {times(w / t)} total width" + (", drawn on" if b else "")
        for w, a, t, b in zip(rows["width"], rows["active"], rows["total"], rows["beyond"], strict=True)
    ]
    return rows.assign(
        multiple=rows["width"] / size,
        low=rows["low"] / size,
        high=rows["high"] / size,
        text=text,
        role="mixture",
        own=(rows["active"] == rows["active"].iloc[0]) & (rows["total"] == rows["total"].iloc[0]),
    )


def _powers(data: pd.DataFrame, lines: list[float]) -> list[float]:
    """Powers of two that hold every point and every line."""
    least = min(float(data["low"].min()), *lines)
    most = max(float(data["high"].max()), *lines) * 1.5  # room for words
    low = high = 1.0
    while low > least:
        low /= 2
    while low * 2 <= least:
        low *= 2
    while high < most:
        high *= 2
    found = [low]
    while found[-1] < high:
        found.append(found[-1] * 2)
    return found


def _shapes(data: pd.DataFrame) -> alt.Shape:
    """A shape for each series, by how it is known."""
    kinds = data.drop_duplicates("series").set_index("series")["kind"]
    seen: dict[str, int] = {}
    found = []
    for kind in kinds:
        place = seen[kind] = seen.get(kind, -1) + 1
        found.append(SHAPES[kind][place % len(SHAPES[kind])])
    grey = {"symbolStrokeColor": "gray", "symbolFillColor": "gray"}  # which both themes show
    legend = alt.Legend(orient="top", title=None, labelLimit=420, columns=2, **grey)
    return alt.Shape("series:N", scale=alt.Scale(domain=list(kinds.index), range=found), legend=legend)


def _series(
    part: pd.DataFrame, kind: str, x: alt.X, y: alt.Y, shape: alt.Shape, tip: list[alt.Tooltip]
) -> list[alt.Chart]:
    """Points where it was measured; dashed, hollow and with its band where it is modelled."""
    base = alt.Chart(part).encode(x=x, y=y)
    own = bool(part["own"].iloc[0])  # of this layer, not of the test model's
    faint = 1.0 if own else 0.45
    dots = base.mark_point(size=65, opacity=faint, filled=kind != "modelled").encode(shape=shape, tooltip=tip)
    if kind == "measured elsewhere":
        return [paint(dots, "mixture")]
    if kind == "measured here":
        line = paint(base.mark_line(strokeWidth=1.8, opacity=faint), "mixture", stroke=True)
        return [line, paint(dots, "mixture")]
    band = base.mark_area(opacity=0.14).encode(y=alt.Y("low:Q", scale=y["scale"]), y2=alt.Y2("high:Q"))
    line = paint(base.mark_line(strokeDash=[6, 4], strokeWidth=1.6), "mixture", stroke=True)
    small = base.mark_point(size=30, opacity=0.9, filled=False).encode(shape=shape, tooltip=tip)
    return [paint(band, "mixture"), line, paint(small, "mixture", stroke=True)]


def _lines(lines: Mapping[str, float], width: float, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Grey lines; names that fall together stand on one line of words."""
    known = sorted((size / width, name) for name, size in lines.items())
    words: list[tuple[float, str]] = []
    for multiple, name in known:
        text = f"{name}: {times(multiple)}"
        if words and multiple / words[-1][0] < _CLOSE:
            text = f"{words.pop()[1]}, {text}"
        words.append((multiple, text))
    rules = pd.DataFrame(known, columns=["multiple", "name"])
    labels = pd.DataFrame(words, columns=["multiple", "word"])
    rule = paint(alt.Chart(rules).mark_rule(strokeWidth=1.1), "limit", stroke=True).encode(y=y)
    word = paint(alt.Chart(labels).mark_text(align="right", dx=-4, dy=-7, fontStyle="italic"), "limit")
    return [rule, word.encode(x=alt.XValue("width"), y=y, text=alt.Text("word:N"))]


def _here(here: Mapping[str, int], x: alt.X) -> list[alt.Chart]:
    """Vertical rules; words stand left of those in the right half."""
    low, high = x["scale"]["domain"]
    data = _marks(here, low, high)
    rule = paint(alt.Chart(data).mark_rule(strokeDash=[2, 3]), "limit", stroke=True).encode(x=x)
    marks = [rule]
    for side, align, dx in (("before", "right", -5), ("after", "left", 5)):
        word = alt.Chart(data).mark_text(align=align, dx=dx, baseline="top")
        marks.append(paint(word, "ink").encode(x=x, y=alt.YValue(4), text=alt.Text(f"{side}:N")))
    return marks


def _marks(here: Mapping[str, int], low: float, high: float) -> pd.DataFrame:
    """tokens, and the words before or after each rule; what lies beyond the axis stands at its end."""
    rows = []
    for words, tokens in here.items():
        said = words + (" →" if tokens > high else "")
        right = tokens**2 > low * high
        rows.append((min(max(tokens, low), high), said if right else "", "" if right else said))
    return pd.DataFrame(rows, columns=["tokens", "before", "after"])


def moved(figure: Figure, here: Mapping[str, int]) -> Figure:
    """The same figure with other rules: nothing is compiled again."""
    low, high = float(figure.data["tokens"].min()), float(figure.data["tokens"].max())
    frames = figure.spec["datasets"]
    swapped = {name: _marks(here, low, high) if "before" in rows else rows for name, rows in frames.items()}
    return figure._replace(spec={**figure.spec, "datasets": swapped})


def _title(data: pd.DataFrame) -> str:
    main = data[data["series"] == data.iloc[0]["series"]].sort_values("tokens")
    top, end = largest(main, "width"), largest(main, "tokens")
    return (
        f"The layer is dearest at {int(top['tokens']):,} tokens, {times(top['width'] / top['active'])} its "
        f"active and {times(top['width'] / top['total'])} its total width; at {int(end['tokens']):,} it is "
        f"{times(end['width'] / end['active'])} its active width"
    )
