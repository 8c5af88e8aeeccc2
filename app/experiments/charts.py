"""Experiments: curves over seeds, the load of experts, differences between arms, findings side by side.

Rows are those of `series`. Seeds are thin, their mean is bold, a band is its 95 % interval. Measured here: a
line with points; measured elsewhere: points on a hairline. What an evenly random router shows is grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import altair as alt
import pandas as pd

from app.experiments import series
from app.figure import (
    TIME_AXIS,
    Figure,
    around_one,
    diverging,
    draw,
    largest,
    log2_axis,
    paint,
    ticks,
    times,
)
from moe_core.report.palette import ROLES
from moe_core.report.text import many
from moe_core.units import figure as figure_of
from moe_core.units import quantity

# Colours of the theme in the order in which strategies take them; blue is for dense models, green for what
# is published, grey for limits.
_HUES = ("mixture", "purple", "teal", "ochre", "pink", "ink")
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
_MANY = 40  # points of a curve, beyond which they are not marked
TINY = 1e-3  # values below are written as powers of ten
LIMIT = 2.0  # of the load's colours, in doublings: the same at every step


def curves(
    rows: pd.DataFrame,
    metric: str,
    axis: str,
    *,
    floor: tuple[float, float] | None = None,
    height: int = 340,
    live: bool = False,
    whole: pd.DataFrame | None = None,
) -> Figure:
    """One metric over one axis, a colour a strategy. `rows`: of this metric and axis, of one part.

    live: nothing of the chart depends on the values, so that a browser changes the data alone. whole: the
    rows that the axes must hold, where `rows` are only the first of them.
    """
    short = series.strategies((rows if whole is None else whole)["arm"])
    rows = rows.assign(strategy=rows["arm"].map(short))
    data = series.means(rows).assign(strategy=lambda frame: frame["arm"].map(short))
    names = _order(data["strategy"])
    x = _across(data if whole is None else whole, axis, fixed=whole is not None)
    y = _up(rows if whole is None else whole, metric, floor, live)
    layers = [*_band(data, x, y, names), *_seeds(rows, x, y, names), *_means(data, x, y, names)]
    layers += _floor(floor, live)
    title = _curve_title(
        rows, metric, "is now" if live else "ends" if _is_training(axis) else "is in the mean"
    )
    words = f"{series.metric(metric).title} over {series.axis_title(axis)}, {_seed_words(rows)}. {title}."
    chart = alt.layer(*layers).properties(height=height)
    return draw(title, words, chart, data.drop(columns="strategy"))


def _order(strategies: pd.Series[str]) -> list[str]:
    return [str(name) for name in dict.fromkeys(strategies)]


def _places(names: Sequence[str]) -> list[str]:
    """A scale's domain that puts each name at the place of its colour in the theme, round after round."""
    found: dict[int, str] = {}
    for hues, mine in (
        (("dense",), [name for name in names if name.startswith("dense")]),
        (_HUES, [name for name in names if not name.startswith("dense")]),
    ):
        for at, name in enumerate(mine):
            found[_slot(hues[at % len(hues)]) + len(ROLES) * (at // len(hues))] = name
    size = len(ROLES) * (1 + max(found, default=0) // len(ROLES))
    return [found.get(at, f"unused {at}") for at in range(size)]


def _slot(role: str) -> int:
    return ROLES.index(role)


def _colour(names: Sequence[str], legend: bool = True) -> alt.Color:
    scale = alt.Scale(domain=_places(names), range="category")
    if not legend:  # the legend of another layer serves: none here would take that away
        return alt.Color("strategy:N", scale=scale)
    return alt.Color("strategy:N", scale=scale, legend=_legend(names))


def _faint(names: Sequence[str], channel: type[alt.Fill] | type[alt.Stroke]) -> alt.Fill | alt.Stroke:
    """The same colours for what is drawn faintly: in a channel of its own, or the legend were as faint.

    With the same legend, into which it is merged: none here, in a lower layer, would take that away.
    """
    scale = alt.Scale(domain=_places(names), range="category")
    return channel("strategy:N", scale=scale, legend=_legend(names))


def _shape(names: Sequence[str]) -> alt.Shape:
    domain = _places(names)
    marks = [_SHAPES[names.index(name) % len(_SHAPES)] if name in names else "circle" for name in domain]
    scale = alt.Scale(domain=domain, range=marks)
    return alt.Shape("strategy:N", scale=scale, legend=_legend(names))


def across_strategies(names: Sequence[str]) -> tuple[alt.Color, alt.Shape, alt.Fill | alt.Stroke]:
    """Colour, shape and faint fill of strategies, as every chart of experiments has them."""
    return _colour(names), _shape(names), _faint(names, alt.Fill)


def _legend(names: Sequence[str]) -> alt.Legend:
    return alt.Legend(
        orient="top",
        title=None,
        values=list(names),
        labelLimit=180,
        columns=min(len(names), 4),
        symbolSize=70,
        symbolOpacity=1,
        symbolStrokeWidth=0,
    )


def _dash(names: Sequence[str]) -> alt.StrokeDash:
    """The second time a colour is used its line is dashed."""
    places = _places(names)
    dashes = [[1, 0] if places.index(name) < len(ROLES) else [5, 3] for name in names]
    return alt.StrokeDash("strategy:N", scale=alt.Scale(domain=list(names), range=dashes), legend=None)


def _is_training(axis: str) -> bool:
    return axis in ("step", "tokens", "flops", series.SHARE)


def _across(data: pd.DataFrame, axis: str, fixed: bool = False) -> alt.X:
    title, values = series.axis_title(axis), sorted(set(data["x"]))
    if axis in series.NAMED:
        return alt.X("x:O", title=title, axis=alt.Axis(labelAngle=0, format="~g", labelOverlap=True))
    if _geometric(values) and axis not in ("step", "flops", series.SHARE):  # those go on evenly
        if values[-1] < 2**20:
            return log2_axis("x", title, values)
        return alt.X("x:Q", title=title, scale=alt.Scale(type="log"), axis=alt.Axis(format="~s", tickCount=5))
    form = "%" if axis == series.SHARE else "~s"
    ends = alt.Scale(nice=False, domain=[0, values[-1]]) if fixed and values else alt.Scale(nice=False)
    return alt.X("x:Q", title=title, scale=ends, axis=alt.Axis(format=form, tickCount=8))


def _geometric(values: Sequence[float]) -> bool:
    """Whether values were chosen in ratios, as 1, 2, 4, 8 are."""
    if len(values) < 3 or values[0] <= 0:
        return False
    ratios = [after / before for before, after in pairwise(values)]
    return min(ratios) > 1.2 and max(ratios) <= 16


def _up(rows: pd.DataFrame, metric: str, floor: tuple[float, float] | None, live: bool) -> alt.Y:
    title = series.metric(metric).title
    if series.metric(metric).unit == "s" and not live:
        return _seconds(rows, title)
    if live or rows.empty:
        return alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    low, high = float(rows["value"].min()), float(rows["value"].max())
    low = min(low, *(floor or (low,)), 0.0 if low < 0.35 * high else low)
    room = 0.05 * (high - low or abs(high) or 1.0)
    axis = alt.Axis(format=".1e") if 0 < high < TINY else alt.Axis()
    least = low if low == 0 else low - room
    return alt.Y("value:Q", title=title, axis=axis, scale=alt.Scale(domain=[least, high + room], nice=False))


def _seconds(rows: pd.DataFrame, title: str) -> alt.Y:
    low, high = float(rows["value"].min()) / 1.2, float(rows["value"].max()) * 1.2
    axis = alt.Axis(values=ticks(low, high), labelExpr=TIME_AXIS)
    return alt.Y(
        "value:Q", title=title, scale=alt.Scale(type="log", domain=[low, high], nice=False), axis=axis
    )


def _band(data: pd.DataFrame, x: alt.X, y: alt.Y, names: Sequence[str]) -> list[alt.Chart]:
    several = data[data["seeds"] > 1]
    if several.empty:
        return []
    base = alt.Chart(several).mark_area(opacity=0.1, clip=True)
    detail = alt.Detail(["origin:N", "arm:N"])
    low = alt.Y("low:Q", title=y["title"], scale=y["scale"])  # its own would begin at zero
    return [base.encode(x=x, y=low, y2="high:Q", fill=_faint(names, alt.Fill), detail=detail)]


def _seeds(rows: pd.DataFrame, x: alt.X, y: alt.Y, names: Sequence[str]) -> list[alt.Chart]:
    if rows.groupby("arm")["seed"].nunique().max() < 2 or rows["x"].nunique() < 2:
        return []
    base = alt.Chart(rows).mark_line(strokeWidth=0.8, opacity=0.35)
    detail = alt.Detail(["origin:N", "arm:N", "seed:N"])
    return [base.encode(x=x, y=y, stroke=_faint(names, alt.Stroke), detail=detail)]


def _means(data: pd.DataFrame, x: alt.X, y: alt.Y, names: Sequence[str]) -> list[alt.Chart]:
    """A line for each arm with its points; what was measured elsewhere on a hairline."""
    tip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("x:Q", format=".4~g"),
        alt.Tooltip("value:Q", title="mean", format=".4~g"),
        alt.Tooltip("low:Q", title="95 % from", format=".4~g"),
        alt.Tooltip("high:Q", title="to", format=".4~g"),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("origin:N", title="source"),
    ]
    detail = alt.Detail(["origin:N", "arm:N"])
    here = alt.condition("datum.origin == 'measured here'", alt.value(2.4), alt.value(0.9))
    line = alt.Chart(data).mark_line().encode(
        x=x, y=y, color=_colour(names, False), strokeDash=_dash(names), strokeWidth=here, detail=detail
    )  # fmt: skip
    size = 34 if data["x"].nunique() <= _MANY else 10
    dots = alt.Chart(data).mark_point(filled=True, size=size, opacity=1)
    return [line, dots.encode(x=x, y=y, color=_colour(names), shape=_shape(names), tooltip=tip)]


def _floor(floor: tuple[float, float] | None, live: bool) -> list[alt.Chart]:
    """The sampling floor: what chance alone does to a perfectly even router."""
    if floor is None:
        return []
    frame = pd.DataFrame(
        {"floor": [floor[0]], "high": [floor[1]], "words": ["a perfectly even router, by chance"]}
    )
    base = alt.Chart(frame)
    rule = paint(base.mark_rule(strokeDash=[5, 4], strokeWidth=1.5), "limit", stroke=True).encode(y="floor:Q")
    band = paint(base.mark_rect(opacity=0.18), "limit").encode(y="floor:Q", y2="high:Q")
    word = paint(base.mark_text(align="left", dx=6, dy=-6, fontStyle="italic"), "limit")
    return [band, rule, word.encode(x=alt.value(0), y="high:Q", text="words:N")]


def _curve_title(rows: pd.DataFrame, metric: str, verb: str) -> str:
    """How the arms end, or stand: the highest and the lowest, by name."""
    told, trained = series.metric(metric), series.without_floor(rows)
    each = trained if verb == "is in the mean" else series.ends(trained)
    late = each.groupby("arm", sort=False)["value"].mean()
    subject = f"{told.words[0].upper()}{told.words[1:]}"
    if late.empty:
        return f"{subject} has not been measured yet"
    most, least = str(late.idxmax()), str(late.idxmin())
    high, low = (_said(float(late[arm]), told) for arm in (most, least))
    if len(late) == 1 and verb == "is in the mean":
        return f"{subject} goes {_span(trained, told)}"
    if len(late) == 1:
        return f"{subject} {verb} at {high} ({_short(most)})"
    return f"{subject} {verb} highest with {_short(most)} ({high}) and lowest with {_short(least)} ({low})"


def _span(rows: pd.DataFrame, told: series.Metric) -> str:
    """`from 0.39 nats at 0 to 0.34 nats at 1`: one arm along an axis."""
    means = rows.groupby("x")["value"].mean().sort_index()
    ends = [f"{_said(float(means.loc[x]), told)} at {x:g}" for x in (means.index[0], means.index[-1])]
    return f"from {ends[0]} to {ends[1]}"


def _said(value: float, told: series.Metric) -> str:
    if told.unit == "s":
        return quantity(value, "s")
    return f"{figure_of(value)} {told.unit}".rstrip()


def _short(arm: str) -> str:
    name = series.strategy(arm).replace("_", " ")
    return "no balancing" if name == "none" else name


def _seed_words(rows: pd.DataFrame) -> str:
    found = series.seeds(rows)
    return (
        "one seed"
        if found == 1
        else f"{many(found, 'seeds')} thin, their mean bold, its 95 % interval as a band"
    )


# -- the load of experts ---------------------------------------------------------------------------


def heatmap(loads: pd.DataFrame, step: int, *, live: bool = False) -> Figure:
    """Layer x expert of every arm at one step, coloured around fair share. `loads`: of one seed, not empty.

    An arm that has no window there shows its last one before; one that begins later, its first.
    """
    now = loads if live else _at(loads, step)
    powers, _ = around_one(now["ratio"])
    data = now.assign(log_ratio=powers.clip(-LIMIT, LIMIT), share=now["ratio"].map(times))
    arms, layers = _order(data["arm"]), int(data["layer"].nunique())
    chart = (
        alt.Chart(data)
        .mark_rect()
        .encode(
            x=alt.X("expert:O", title="expert", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("arm:N", sort=arms, title=None, scale=alt.Scale(paddingInner=0.18), axis=_NAMES),
            yOffset=alt.YOffset("layer:O", scale=alt.Scale(paddingInner=0)),
            color=diverging("log_ratio", "load", "fair", LIMIT, top=True),
            tooltip=[
                "arm:N", "layer:O", "expert:O", alt.Tooltip("share:N", title="of fair share"),
                alt.Tooltip("load:Q", title="pairs in the window", format=","), "step:Q",
            ],
        )
        .properties(height=max(18 * layers, 30) * len(arms) + 150)
    )  # fmt: skip
    hot = largest(data, "ratio")
    at = "So far" if live else f"At step {step:,}"
    title = f"{at} the hottest expert does {times(hot['ratio'])} its fair share ({hot['arm']})"
    size = f"{many(data['expert'].nunique(), 'experts')} in {many(layers, 'layers')}"
    words = f"Load of {size}, arm by arm. {title}."
    return draw(title, words, chart, data.drop(columns="log_ratio"))


def _at(loads: pd.DataFrame, step: int) -> pd.DataFrame:
    """The last window of every arm up to a step."""
    before = loads["step"].where(loads["step"] <= step)
    last = before.groupby(loads["arm"]).transform("max")
    first = loads.groupby("arm")["step"].transform("min")
    return loads[loads["step"] == last.fillna(first)]


_NAMES = alt.Axis(labelLimit=180, ticks=False)


# -- differences -----------------------------------------------------------------------------------


def differences(rows: pd.DataFrame, metric: str, base: str) -> Figure:
    """How each arm ends less how `base` ends: a dot a seed, the mean, its 95 % interval. Zero: no difference.

    `rows`: of `series.differences`, not empty.
    """
    data = rows.assign(zero=0.0, arm=rows["arm"].str.replace("_", " "))
    told = series.metric(metric)
    order = _order(data["arm"])
    y = alt.Y("arm:N", sort=order, title=None, axis=alt.Axis(labelLimit=200))
    offset = alt.YOffset("origin:N")
    x = alt.X("value:Q", title=f"{told.title}, less {_short(base)}")
    each = alt.Chart(data)
    one = alt.Chart(data.drop_duplicates(["origin", "arm"]))
    tip = ["arm:N", "origin:N", alt.Tooltip("mean:Q", format="+.4~g"), *_ENDS, alt.Tooltip("seeds:Q")]
    zero = paint(alt.Chart(data.head(1)).mark_rule(strokeDash=[4, 4]), "limit", stroke=True).encode(
        x="zero:Q"
    )
    span = paint(one.mark_rule(strokeWidth=2.5), "mixture", stroke=True).encode(
        y=y, yOffset=offset, x="low:Q", x2="high:Q"
    )
    dots = paint(each.mark_point(filled=True, size=26, opacity=0.45), "ink").encode(y=y, yOffset=offset, x=x)
    mean = paint(one.mark_point(filled=True, size=110, shape="diamond", opacity=1), "mixture")
    mean = mean.encode(y=y, yOffset=offset, x=alt.X("mean:Q"), tooltip=tip)
    title = _difference_title(data, told, base)
    chart = alt.layer(zero, span, dots, mean).properties(
        height=34 * data[["arm", "origin"]].drop_duplicates().shape[0] + 90
    )
    return draw(title, f"Differences paired by seed. {title}.", chart, data.drop(columns="zero"))


_ENDS = [
    alt.Tooltip("low:Q", title="95 % from", format="+.4~g"),
    alt.Tooltip("high:Q", title="to", format="+.4~g"),
]


def _difference_title(data: pd.DataFrame, told: series.Metric, base: str) -> str:
    ends = data.drop_duplicates(["origin", "arm"]).dropna(subset=["low"])
    apart = ends[(ends["low"] > 0) | (ends["high"] < 0)]
    if ends.empty:
        return f"One seed cannot tell whether {told.words} differs from {_short(base)}"
    if apart.empty:
        return f"No arm differs from {_short(base)} in {told.words} by more than its seeds do"
    row = apart.loc[[apart["mean"].abs().idxmax()]].to_dict("records")[0]
    unit = f" {told.unit}" if told.unit else ""
    name = _short(str(row["arm"]))
    return (
        f"{name[:1].upper()}{name[1:]} differs most from {_short(base)}: "
        f"{row['mean']:+.3g}{unit} ({row['low']:+.3g} to {row['high']:+.3g})"
    )


# -- two ways to fail ------------------------------------------------------------------------------


def failures(found: pd.DataFrame) -> Figure:
    """Experts in use against the gate's indecision: left is collapse, on top a router that does not route."""
    data = found.assign(strategy=[series.strategy(str(arm)) for arm in found["arm"]])
    names = _order(data["strategy"])
    x = _share("effective", 1.02)
    y = _share("router_effective", 1.04)
    tip = [alt.Tooltip("arm:N"), alt.Tooltip("origin:N"), alt.Tooltip("verdict:N")]
    tip += [alt.Tooltip(f"{name}:Q", format=".2f") for name in ("effective", "router_effective")]
    dots = alt.Chart(data).mark_point(filled=True, size=120, opacity=1)
    dots = dots.encode(x=x, y=y, color=_colour(names), shape=_shape(names), tooltip=tip)
    named = paint(alt.Chart(data).mark_text(align="right", dx=-10), "ink").encode(x=x, y=y, text="arm:N")
    title = _failure_title(data)
    chart = alt.layer(*_zones(), dots, named).properties(height=340)
    return draw(title, f"Collapse and flat routing. {title}.", chart, data.drop(columns="strategy"))


def _share(name: str, top: float) -> alt.X | alt.Y:
    channel = alt.X if name == "effective" else alt.Y
    scale = alt.Scale(domain=[0, top], nice=False)
    return channel(f"{name}:Q", title=series.metric(name).title, scale=scale, axis=alt.Axis(tickCount=6))


def _zones() -> list[alt.Chart]:
    """Where the two failures are, in grey."""
    zones = pd.DataFrame(
        {
            "left": [0.0, series.COLLAPSED],
            "right": [series.COLLAPSED, 1.02],
            "low": [0.0, series.FLAT],
            "high": [1.04, 1.04],
            "words": ["collapsed: few experts do the work", "flat: the gate does not decide"],
        }
    )
    base = alt.Chart(zones)
    area = paint(base.mark_rect(opacity=0.12), "limit")
    area = area.encode(x=alt.X("left:Q"), x2="right:Q", y=alt.Y("low:Q"), y2="high:Q")
    word = paint(base.mark_text(align="left", dx=6, dy=10, fontStyle="italic"), "limit")
    return [area, word.encode(x="left:Q", y=alt.Y("high:Q"), text="words:N")]


def _failure_title(data: pd.DataFrame) -> str:
    told = {name: list(part["arm"].unique()) for name, part in data.groupby("verdict")}
    wrong = [f"{' and '.join(told[name])} {name}" for name in ("collapsed", "flat") if name in told]
    return "; ".join(wrong) if wrong else "Every router routes, and every expert has work"


# -- findings --------------------------------------------------------------------------------------


def forest(found: pd.DataFrame) -> Figure:
    """Differences of loss that experiments found, with their 95 % intervals.

    `found`: code, name, origin, value, low, high, seeds.
    """
    data = found.assign(zero=0.0, what=found["code"] + "  " + found["name"])
    order = _order(data["what"])
    y = alt.Y("what:N", sort=order, title=None, axis=alt.Axis(labelLimit=320))
    offset = alt.YOffset("origin:N")
    base = alt.Chart(data)
    zero = paint(alt.Chart(data.head(1)).mark_rule(strokeDash=[4, 4]), "limit", stroke=True).encode(
        x="zero:Q"
    )
    span = paint(base.mark_rule(strokeWidth=2), "mixture", stroke=True).encode(
        y=y, yOffset=offset, x="low:Q", x2="high:Q"
    )
    here = alt.condition("datum.origin == 'measured here'", alt.value(1), alt.value(0.55))
    tip = ["what:N", "origin:N", alt.Tooltip("value:Q", format="+.4~g"), *_ENDS, "seeds:Q"]
    dots = paint(base.mark_point(filled=True, size=90), "mixture").encode(
        y=y,
        yOffset=offset,
        x=alt.X("value:Q", title="difference of held-out loss, nats a byte", axis=alt.Axis(tickCount=8)),
        opacity=here,
        tooltip=tip,
    )
    apart = data[(data["low"] > 0) | (data["high"] < 0)]
    several = data.dropna(subset=["low"])
    lie = "lies" if len(several) == 1 else "lie"
    title = f"{len(apart)} of {many(len(several), 'differences')} of loss {lie} beyond what seeds alone do"
    return draw(
        title,
        f"Differences of loss with 95 % intervals. {title}.",
        alt.layer(zero, span, dots).properties(height=26 * len(order) + 80),
        data.drop(columns=["zero", "what"]),
    )
