"""Speed: one layer over tokens. Kernel beside kernel, mixture beside dense, measured beside predicted.

Frames come from `app.layers`. Times are medians of one layer's calls on one device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from app.figure import (
    TIME_AXIS,
    Figure,
    by_model,
    draw,
    label_models,
    largest,
    log2_axis,
    paint,
    percent,
    roles,
    shapes,
    times,
)
from app.speed.layers import ACTIVE, BEST, CHOSEN, GROUPED, LOOP, TOTAL
from moe_core.perf.roofline import Roof
from moe_core.report.text import many
from moe_core.units import quantity, significant

SHAPES = {
    **{BEST: "circle", CHOSEN: "triangle-down", GROUPED: "square", LOOP: "triangle-up"},
    **{ACTIVE: "diamond", TOTAL: "cross"},
}

LEGEND = alt.Legend(
    orient="top", title=None, labelLimit=220, columns=2, symbolFillColor="gray", symbolStrokeColor="gray"
)


def over_tokens(rows: pd.DataFrame, roofs: pd.DataFrame, label: str) -> Figure:
    """Seconds of a layer over tokens, every kernel and both dense widths; grey: what the device allows.

    `rows`: name, tokens, median_s, p10_s, p90_s.   `roofs`: name, tokens, roof_s; may be empty.
    """
    data = _named(rows)
    x, y = _tokens(data), _seconds("median_s", data)
    base = alt.Chart(data).encode(x=x)
    spread = base.mark_rule(strokeWidth=1, opacity=0.5).encode(y="p10_s:Q", y2="p90_s:Q", color=roles("role"))
    lines = _lines(data, x, y)
    tip = ["name:N", "tokens:Q", alt.Tooltip("text:N", title="median")]
    dots = base.mark_point(filled=True, size=55, opacity=1).encode(
        y=y, color=roles("role"), shape=_shape(data), tooltip=tip
    )
    chart = alt.layer(*_roofs(roofs, x), spread, *lines, dots).properties(height=380)
    title = _over_title(data, label)
    return draw(title, f"Time of one layer against tokens. {title}.", chart, rows)


def _roofs(roofs: pd.DataFrame, x: alt.X) -> list[alt.Chart]:
    """The least time for the mixture and for the dense layer of active width, dashed: it is modelled."""
    shown = roofs[roofs["name"].isin([BEST, ACTIVE])] if len(roofs) else roofs
    if not len(shown):
        return []
    base = alt.Chart(shown).encode(x=x, y=alt.Y("roof_s:Q"))
    end = shown[shown["name"] == BEST].nlargest(1, "tokens").assign(words="the least this device allows")
    line = paint(base.mark_line(strokeDash=[5, 4], strokeWidth=1.3), "limit", stroke=True)
    text = paint(alt.Chart(end).mark_text(align="right", dx=-4, dy=16, fontStyle="italic"), "limit")
    return [line.encode(detail="name:N"), text.encode(x=x, y="roof_s:Q", text="words:N")]


def _over_title(data: pd.DataFrame, label: str) -> str:
    best, loop = (_at(data, name) for name in (BEST, LOOP))
    both = sorted(best.keys() & loop.keys())
    if not both:
        return f"Time of one layer of {label} over tokens"
    worst = max(both, key=lambda t: loop[t] / best[t])
    return (
        f"A naive loop takes up to {times(loop[worst] / best[worst])} our best kernel's time "
        f"({tokens_words(worst)}): that is code, not economics"
    )


def split(splits: Sequence[tuple[int, float, float, float]]) -> Figure:
    """The mixture layer in multiples of the dense one: the experts' own work, and everything else.

    `splits`: (tokens, total, work, code).
    """
    rows = [
        {"tokens": f"{tokens:,}", "order": tokens, "part": part, "role": role, "multiple": value}
        for tokens, _, work, code in splits
        for part, role, value in (("the experts' own work", "mixture", work), ("our code", "limit", code))
    ]
    data = pd.DataFrame(rows)
    x = alt.X("tokens:N", sort=alt.EncodingSortField("order"), title="tokens", axis=alt.Axis(labelAngle=0))
    y = alt.Y("multiple:Q", title="times the dense layer of equal active width")
    tip = ["tokens:N", "part:N", alt.Tooltip("multiple:Q", format=".3~g")]
    bars = (
        alt.Chart(data)
        .mark_bar()
        .encode(x=x, y=y, color=roles("role", legend=False), order=alt.Order("role:N", sort="descending"))
        .encode(tooltip=tip, opacity=alt.value(0.9))
    )
    one = alt.Chart(pd.DataFrame({"one": [1.0], "word": ["the dense layer"]}))
    rule = paint(one.mark_rule(strokeWidth=2), "dense", stroke=True).encode(y="one:Q")
    word = paint(one.mark_text(align="left", dx=4, dy=-7), "dense")
    word = word.encode(x=alt.value(0), y="one:Q", text="word:N")
    worst = max(splits, key=lambda s: s[3] / s[1])
    title = (
        f"At {tokens_words(worst[0])} {percent(worst[3] / worst[1])} of the layer's time is our code; "
        f"the experts' own work is {times(worst[2])} the dense layer"
    )
    words = f"Orange: reading and multiplying the experts hit; grey: routing, moving, starting. {title}."
    return draw(title, words, alt.layer(bars, rule, word).properties(height=320), data.drop(columns="role"))


def equivalent(rows: pd.DataFrame, lines: Mapping[str, float]) -> Figure:
    """Width of the dense network that takes as long, in multiples of the active width.

    `rows`: tokens, name, width, beyond, active_multiple.   `lines`: what to compare with -> multiple.
    """
    data = _named(rows).assign(
        text=[
            f"{'about ' if b else ''}{w:,.0f} wide"
            for w, b in zip(rows["width"], rows["beyond"], strict=True)
        ]
    )
    x = _tokens(data)
    y = alt.Y(
        "active_multiple:Q",
        title="dense width that takes as long, × active",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(format=".3~g"),
    )
    base = alt.Chart(data).encode(x=x, y=y, color=roles("role"))
    tip = ["tokens:Q", "name:N", "text:N", alt.Tooltip("active_multiple:Q", format=".3~g", title="× active")]
    curve = _lines(data, x, y)
    dots = base.mark_point(filled=True, size=55, opacity=1).encode(shape=_shape(data), tooltip=tip)
    marks = pd.DataFrame({"multiple": list(lines.values()), "word": list(lines)})
    rule = alt.Chart(marks).mark_rule(color="gray").encode(y="multiple:Q")
    word = paint(alt.Chart(marks).mark_text(align="left", dx=4, dy=-7), "limit")
    word = word.encode(x=alt.value(0), y="multiple:Q", text="word:N")
    title = _equivalent_title(data)
    chart = alt.layer(rule, word, *curve, dots).properties(height=340)
    return draw(title, f"Dense-equivalent width over tokens. {title}.", chart, rows)


def _equivalent_title(data: pd.DataFrame) -> str:
    rows = data[data["name"] == BEST].sort_values("tokens").to_dict("records")
    few, many = rows[0], rows[-1]
    return (
        f"The mixture layer takes as long as a dense one {times(few['active_multiple'])} its active width "
        f"at {tokens_words(few['tokens'])} and {times(many['active_multiple'])} at {many['tokens']:,}"
    )


def predicted(rows: pd.DataFrame, label: str) -> Figure:
    """Points: measured. Dashed: predicted, with a band as wide as nine tenths of the errors here.

    `rows`: name, tokens, measured_s, predicted_s, error.
    """
    error = float(rows["error"].abs().quantile(0.9))
    data = _named(rows).assign(
        low=rows["predicted_s"] / (1 + error),
        high=rows["predicted_s"] * (1 + error),
        off=rows["error"].map(lambda e: f"{'+' if e >= 0 else '−'}{percent(abs(e))}"),
    )
    x, tip = _tokens(data), ["name:N", "tokens:Q", "measured_s:Q", "predicted_s:Q", "off:N"]
    base = alt.Chart(data).encode(x=x)
    band = base.mark_area(opacity=0.13).encode(
        y=_seconds("low", data), y2="high:Q", color=roles("role"), detail="name:N"
    )
    dashed = base.mark_line(strokeDash=[6, 4], strokeWidth=1.6).encode(
        y="predicted_s:Q", color=roles("role"), detail="name:N"
    )
    dots = base.mark_point(filled=True, size=55, opacity=1).encode(
        y="measured_s:Q", color=roles("role"), shape=_shape(data), tooltip=tip
    )
    off = rows["error"].abs()
    worst = data.assign(off=off).nlargest(1, "off").to_dict("records")[0]
    title = (
        f"Predicted layer times of {label} are {percent(float(off.mean()))} off in the mean, "
        f"{percent(float(off.max()))} at worst ({worst['name']}, {tokens_words(int(worst['tokens']))})"
    )
    chart = alt.layer(band, dashed, dots).properties(height=340)
    return draw(title, f"Measured and predicted time of one layer. {title}.", chart, rows)


def tokens_words(count: int) -> str:
    """`1 token`, `1,024 tokens`."""
    return many(count, "tokens")


# -- shared ----------------------------------------------------------------------------------------


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    """The role of each name, and its time in words where there is one."""
    data = rows.assign(role=rows["name"].map(lambda name: str(name).split(",")[0]))
    if "median_s" in data:
        data = data.assign(text=data["median_s"].map(lambda s: quantity(float(s), "s")))
    return data


def _at(data: pd.DataFrame, name: str) -> dict[int, float]:
    rows = data[data["name"] == name]
    return dict(zip(rows["tokens"].astype(int), rows["median_s"].astype(float), strict=True))


def _tokens(data: pd.DataFrame) -> alt.X:
    return log2_axis("tokens", "tokens in the layer at once", data["tokens"].tolist())


def _seconds(field: str, data: pd.DataFrame) -> alt.Y:
    """A logarithmic axis of time; ticks at 1, 2, 5 where the range is narrow, else at powers of ten."""
    columns = [name for name in data.columns if str(name).endswith("_s")]
    low, high = float(data[columns].min().min()), float(data[columns].max().max())
    steps = (1, 2, 5) if high / low < 300 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return alt.Y(
        f"{field}:Q",
        title="time of one layer",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(labelExpr=TIME_AXIS, values=ticks),
    )


def _shape(data: pd.DataFrame) -> alt.Shape:
    names = [name for name in SHAPES if name in set(data["name"])]
    scale = alt.Scale(domain=names, range=[SHAPES[name] for name in names])
    return alt.Shape("name:N", scale=scale, legend=LEGEND)


def _lines(data: pd.DataFrame, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """A line for every name; the best kernel and the dense layer of equal active width are thick."""
    first = data["name"].isin([BEST, ACTIVE])
    return [
        alt.Chart(part).mark_line(strokeWidth=width).encode(x=x, y=y, color=roles("role"), detail="name:N")
        for part, width in ((data[first], 2.4), (data[~first], 1.0))
        if len(part)
    ]


# -- roofline ----------------------------------------------------------------------------------------
# What layers reach of what the device can do (Williams, Waterman and Patterson 2009). `points` frame:
# name, tokens, intensity (FLOP a byte), measured, modelled (FLOP/s).


RATE_AXIS = "format(datum.value, '.2~s') + 'FLOP/s'"


def roofline(points: pd.DataFrame, roof: Roof, label: str) -> Figure:
    """Filled: measured. Hollow: modelled. Grey: the calibrated roof, its ridge marked."""
    reached = [m / roof.reachable(i) for m, i in zip(points["measured"], points["intensity"], strict=True)]
    data = _named(points).assign(part=reached, share=[percent(part) for part in reached])
    least, most = float(points["intensity"].min()) / 2, max(float(points["intensity"].max()), roof.ridge) * 2
    x = alt.X(
        "intensity:Q",
        title="FLOP a byte of memory traffic",
        scale=alt.Scale(type="log", domain=[least, most], nice=False),
        axis=alt.Axis(format="~g", tickCount=6),
    )
    base = alt.Chart(data).encode(x=x, shape=_shape(data), color=roles("role"))
    rate = alt.Y("measured:Q", title="speed", scale=alt.Scale(type="log"))
    rate = rate.axis(labelExpr=RATE_AXIS, tickCount=6)
    tip = [
        "name:N",
        "tokens:Q",
        alt.Tooltip("intensity:Q", format=".3~g"),
        alt.Tooltip("share:N", title="of the roof"),
    ]
    solid = base.mark_point(filled=True, size=60, opacity=1).encode(y=rate, tooltip=tip)
    hollow = base.mark_point(filled=False, size=60, opacity=0.75).encode(y="modelled:Q")
    chart = alt.layer(*_roof(roof, least, most, x), hollow, solid).properties(height=380)
    title = _roofline_title(data, roof, label)
    return draw(title, f"Roofline. Filled points are measured, hollow ones modelled. {title}.", chart, points)


def _roofline_title(data: pd.DataFrame, roof: Roof, label: str) -> str:
    top = largest(data[data["role"] == "mixture"], "part")
    return (
        f"{label} reaches {percent(float(top['part']))} of the roof at best "
        f"({tokens_words(int(top['tokens']))}); the ridge is at {significant(roof.ridge)} FLOP a byte"
    )


def _roof(roof: Roof, least: float, most: float, x: alt.X) -> list[alt.Chart]:
    line = pd.DataFrame({"intensity": [least, roof.ridge, most]})
    line = line.assign(rate=[roof.reachable(i) for i in line["intensity"]])
    ridge = line.iloc[[1]].assign(word="ridge")
    edge = alt.Chart(line).mark_line(strokeWidth=2.2).encode(x=x, y="rate:Q")
    dot = alt.Chart(ridge).mark_point(filled=True, size=70, shape="diamond").encode(x=x, y="rate:Q")
    word = alt.Chart(ridge).mark_text(dy=-12, fontStyle="italic").encode(x=x, y="rate:Q", text="word:N")
    return [paint(edge, "limit", stroke=True), paint(dot, "limit"), paint(word, "limit")]


# -- times -------------------------------------------------------------------------------------------
# Dense beside mixture, per phase, per component, against batch. `timings` frame: model (dense|moe),
# phase (prefill|decode), component, median_s, p10_s, p90_s.


PHASES = {"prefill": "prefill (read the text)", "decode": "decode (write one step)"}
COMPONENTS = (
    "attention",
    "router",
    "dispatch",
    "experts",
    "combine",
    "shared",
    "ffn",
    "norm",
    "embed",
    "head",
)


def phases(timings: pd.DataFrame) -> Figure:
    """Median time of both phases, each on its own scale; the thin line spans nine tenths of the repeats."""
    total = _totals(timings)
    panels = [_panel(total[total["phase"] == name], name) for name in PHASES.values()]
    title = _phase_title(total)
    chart = alt.vconcat(*panels).resolve_scale(x="independent", color="shared")
    return draw(title, f"Measured times of the dense model and the mixture. {title}.", chart, total)


def _panel(part: pd.DataFrame, name: str) -> alt.LayerChart:
    y = alt.Y("model:N", title=None, sort=["dense", "mixture"], axis=alt.Axis(labels=False))
    room = alt.Scale(domain=[0, float(part[["median_s", "p90_s"]].max().max()) * 1.2], nice=False)
    x = alt.X("median_s:Q", title=None, axis=alt.Axis(labelExpr=TIME_AXIS, tickCount=4), scale=room)
    base = alt.Chart(part).encode(y=y)
    tip = ["model:N", alt.Tooltip("text:N", title="median"), alt.Tooltip("spread:N", title="spread")]
    bars = base.mark_bar(height=26, opacity=0.85).encode(x=x, color=roles(), tooltip=tip)
    spread = base.mark_rule(strokeWidth=1.5, color="gray").encode(x="p10_s:Q", x2="p90_s:Q")
    words = paint(base.mark_text(align="left", dx=8, fontWeight="bold"), "ink")
    words = words.encode(x="p90_s:Q", text="text:N")
    heading = alt.Title(name, fontSize=13, fontWeight="normal", offset=4)
    return alt.layer(bars, spread, words).properties(title=heading, height=74)


def _totals(timings: pd.DataFrame) -> pd.DataFrame:
    total = label_models(timings[timings["component"] == "total"])
    ends = zip(total["p10_s"], total["p90_s"], strict=True)
    return total.assign(
        phase=total["phase"].map(PHASES),
        text=total["median_s"].map(lambda s: quantity(s, "s")),
        spread=[f"{quantity(low, 's')} to {quantity(high, 's')}" for low, high in ends],
    )


def _phase_title(total: pd.DataFrame) -> str:
    both = by_model(total, "phase", "median_s")
    words = [
        f"{times(both[phase]['mixture'] / both[phase]['dense'])} the dense time in {name}"
        for name, phase in PHASES.items()
        if phase in both
    ]
    return "The mixture takes " + " and ".join(words)


def components(timings: pd.DataFrame, phase: str) -> Figure:
    """Where the time goes, component by component, dense above mixture."""
    part = timings[(timings["phase"] == phase) & (timings["component"] != "total")]
    part = label_models(part[part["median_s"] > 0])
    order = {name: index for index, name in enumerate(COMPONENTS)}
    whole = part.groupby("model")["median_s"].transform("sum")
    data = part.assign(
        order=part["component"].map(order),
        share=part["median_s"] / whole,
        text=part["median_s"].map(lambda s: quantity(s, "s")),
    )
    chart = (
        alt.Chart(data)
        .mark_bar()
        .encode(
            y=alt.Y("component:N", sort=list(COMPONENTS), title=None),
            x=alt.X("median_s:Q", title=f"{phase}, median", axis=alt.Axis(labelExpr=TIME_AXIS, tickCount=5)),
            yOffset=alt.YOffset("model:N", sort=["dense", "mixture"]),
            color=roles(),
            tooltip=[
                "model:N",
                "component:N",
                alt.Tooltip("text:N", title="median"),
                alt.Tooltip("share:Q", format=".3~p"),
            ],
        )
        .properties(height=30 * data["component"].nunique() + 90)
    )
    top = largest(data[data["model"] == "mixture"], "median_s")
    title = f"In {phase}, {top['component']} takes {percent(top['share'])} of the mixture's time"
    return draw(title, f"Time by component in {phase}. {title}.", chart, data.drop(columns="order"))


def against_batch(runs: pd.DataFrame, batch: int) -> Figure:
    """Time of one decode step against batch, from every run of this mixture on this device.

    `runs`: batch, model, seconds. The vertical rule says: you are here.
    """
    data = label_models(runs).assign(text=runs["seconds"].map(lambda s: quantity(s, "s")))
    x = log2_axis("batch", "batch (sequences)", data["batch"].tolist())
    lines = (
        alt.Chart(data)
        .mark_line(point=alt.OverlayMarkDef(size=55), strokeWidth=1.5)
        .encode(
            x=x,
            y=alt.Y(
                "seconds:Q",
                title="one decode step",
                axis=alt.Axis(labelExpr=TIME_AXIS),
                scale=alt.Scale(zero=True),
            ),
            color=roles(),
            shape=shapes(),
            tooltip=["batch:Q", "model:N", alt.Tooltip("text:N", title="median")],
        )
    )
    here = alt.Chart(pd.DataFrame({"batch": [batch]})).encode(x=x)
    rule = here.mark_rule(strokeDash=[2, 3], color="gray")
    word = paint(here.mark_text(align="left", dx=5, y=8), "limit").encode(text=alt.value("you are here"))
    both = by_model(data, "batch", "seconds")
    cheaper = [int(b) for b, models in both.items() if models["mixture"] < models["dense"]]
    where = "at no batch measured so far" if not cheaper else "at batch " + ", ".join(map(str, cheaper))
    title = f"A decode step of the mixture is the shorter one {where}"
    return draw(
        title, f"Decode time against batch. {title}.", (rule + lines + word).properties(height=280), data
    )
