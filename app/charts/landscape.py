"""Landscape: every model as total against active parameters, and what mixtures looked like over the years.

`models` frame: name, kind (dense|mixture), total, active, year, experts, top_k (missing in dense models),
standing (published|rumoured|yours).
"""

from __future__ import annotations

import math

import altair as alt
import pandas as pd

from app.charts.figure import Figure, draw, paint, percent, roles, shapes
from moe_core.units import count

RATIOS = (1, 2, 4, 8, 16, 32)  # one line each: 1 in so many parameters is active
COUNT_AXIS = "replace(format(datum.value, '~s'), 'G', ' B')"
_ROOM = (0.2, 0.055)  # of the plot's width and height, that a label wants for itself


def scatter(models: pd.DataFrame, shown: str, convention: str) -> Figure:
    """Log against log; dense models lie on the diagonal. A click on a point selects its `name` as `model`."""
    data = _data(models, shown)
    low, high = _span(data)
    x = alt.X("total:Q", title="total parameters", axis=_axis(), scale=_log(low, high))
    y = alt.Y("active:Q", title=f"active parameters, {convention}", axis=_axis(), scale=_log(low, high))
    base = alt.Chart(data).encode(x=x, y=y)
    click = alt.selection_point(name="model", fields=["name"], empty=False)
    tip = [
        alt.Tooltip("name:N"),
        alt.Tooltip("model:N"),
        alt.Tooltip("in_all:N"),
        alt.Tooltip("in_use:N"),
        alt.Tooltip("ratio:N"),
        alt.Tooltip("mixture:N"),
        alt.Tooltip("released:N"),
        alt.Tooltip("standing:N"),
    ]
    spoken = alt.Description("spoken:N")
    points = base.mark_point(filled=True, size=85, opacity=0.85, cursor="pointer").encode(
        color=roles(), shape=shapes(), tooltip=tip, description=spoken
    )
    sure = points.transform_filter("datum.standing != 'rumoured'").add_params(click)
    hearsay = base.transform_filter("datum.standing == 'rumoured'").mark_point(size=110, shape="diamond")
    ring = base.transform_filter("datum.shown").mark_point(
        size=330, strokeWidth=2.5, filled=False, aria=False
    )
    names = base.transform_filter("datum.labelled").mark_text(
        align="left", dx=9, dy=-7, fontSize=11, aria=False
    )
    rumoured = paint(hearsay, "limit", stroke=True).encode(tooltip=tip, description=spoken)
    chart = alt.layer(
        *_ratio_lines(low, high),
        sure,
        *([rumoured] if (data["standing"] == "rumoured").any() else []),
        paint(ring, "ink", stroke=True),
        paint(names, "ink").encode(text=alt.Text("name:N")),
        height=470,
    )
    title = _title(data)
    words = f"{len(data)} models, total against active parameters, {convention}. {title}."
    return draw(title, words, chart, data.drop(columns=["labelled", "role", "spoken"], errors="ignore"))


def _data(models: pd.DataFrame, shown: str) -> pd.DataFrame:
    data = models.rename(columns={"kind": "model"}).sort_values("total")
    data = data.assign(
        shown=data["name"] == shown,
        ratio=[percent(a / t) for a, t in zip(data["active"], data["total"], strict=True)],
        in_all=data["total"].map(lambda n: f"{count(n)} in all"),
        in_use=data["active"].map(lambda n: f"{count(n)} active"),
        mixture=[_mixture(e, k) for e, k in zip(data["experts"], data["top_k"], strict=True)],
    )
    spoken = data["name"] + ": " + data["in_all"] + ", " + data["in_use"] + ", " + data["mixture"]
    return data.assign(labelled=data["name"].isin(_uncrowded(data)), spoken=spoken)


def _mixture(experts: float, top_k: float) -> str:
    return "dense" if pd.isna(experts) else f"{experts:.0f} experts, top-{top_k:.0f}"


def _uncrowded(data: pd.DataFrame) -> set[str]:
    """Names that can be written beside their points without touching: the chosen one, then the newest."""
    low, high = (math.log(v) for v in _span(data))
    kept: list[tuple[float, float, str]] = []
    order = data.sort_values(["shown", "standing", "released"], ascending=[False, False, False])
    for row in order.to_dict("records"):
        x, y = ((math.log(row[axis]) - low) / (high - low) for axis in ("total", "active"))
        if (all(abs(x - a) > _ROOM[0] or abs(y - b) > _ROOM[1] for a, b, _ in kept) and x < 0.9) or row[
            "shown"
        ]:
            kept.append((x, y, str(row["name"])))
    return {name for _, _, name in kept}


def _span(data: pd.DataFrame) -> tuple[float, float]:
    """One range for both axes, so that the diagonal is one."""
    return float(data["active"].min()) / 1.4, float(data["total"].max()) * 1.6


def _axis() -> alt.Axis:
    values = [m * 10**e for e in range(6, 14) for m in (1, 3)]
    return alt.Axis(labelExpr=COUNT_AXIS, values=values, labelOverlap=True)


def _log(low: float, high: float) -> alt.Scale:
    return alt.Scale(type="log", domain=[low, high], nice=False)


def _ratio_lines(low: float, high: float) -> list[alt.Chart]:
    """Lines of equal ratio, cut where they leave the plot, and what each says."""
    rows = [
        {"total": max(low, low * r), "active": max(low, low * r) / r, "end": high, "end_active": high / r}
        | {"text": "dense" if r == 1 else f"1 in {r}", "strength": 0.9 if r == 1 else 0.45}
        for r in RATIOS
    ]
    base = alt.Chart(pd.DataFrame(rows)).encode(x=alt.X("total:Q"), y=alt.Y("active:Q"))
    lines = base.mark_rule(color="gray", aria=False).encode(
        x2=alt.X2("end:Q"),
        y2=alt.Y2("end_active:Q"),
        strokeOpacity=alt.Opacity("strength:Q", scale=None, legend=None),
    )
    words = alt.Chart(pd.DataFrame(rows)).mark_text(align="right", dx=-4, dy=-7, fontSize=11, aria=False)
    return [
        lines,
        paint(words, "limit").encode(x=alt.X("end:Q"), y=alt.Y("end_active:Q"), text=alt.Text("text:N")),
    ]


def _title(data: pd.DataFrame) -> str:
    """The sparsest published mixture, against the middle one."""
    mixtures = data[(data["model"] == "mixture") & (data["standing"] == "published")]
    share = (mixtures["active"] / mixtures["total"]).sort_values()
    sparsest = str(mixtures.loc[share.index[0], "name"])
    return (
        f"The median of {len(mixtures)} mixtures uses {percent(float(share.median()))} of its parameters "
        f"for a token; {sparsest}, the sparsest, {percent(float(share.iloc[0]))}"
    )


YEARS = {"experts": "routed experts in a layer", "top_k": "experts a token visits (top-k)"}


def over_years(models: pd.DataFrame, field: str) -> Figure:
    """How many mixtures of each year had so many experts, or so large a top-k. Published ones only."""
    data = models[(models["standing"] == "published") & models[field].notna()].copy()
    edges = sorted({_bin(float(v)) for v in data[field]})
    data["bin"] = data[field].map(lambda v: _bin(float(v)))
    grouped = data.groupby(["year", "bin"], as_index=False).agg(
        models=("name", "size"), names=("name", lambda names: ", ".join(sorted(names)))
    )
    base = alt.Chart(grouped).encode(
        x=alt.X("year:O", title="year of release", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("bin:O", title=YEARS[field], sort=[_words(edge) for edge in reversed(edges)]),
    )
    grouped["bin"] = grouped["bin"].map(_words)
    base.data = grouped
    tip = [
        alt.Tooltip("year:O"),
        alt.Tooltip("bin:O", title=YEARS[field]),
        alt.Tooltip("models:Q"),
        alt.Tooltip("names:N"),
    ]
    cells = base.mark_rect(opacity=0.5).encode(
        color=alt.Color("models:Q", scale=alt.Scale(range="ramp", domainMin=0), legend=None), tooltip=tip
    )
    tall = paint(base.mark_text(fontSize=12, fontWeight="bold"), "ink").encode(text=alt.Text("models:Q"))
    chart = alt.layer(cells, tall, height=34 * len(edges) + 60)
    title = _years_title(data, field)
    return draw(title, f"Mixtures by year and {YEARS[field]}. {title}.", chart, grouped)


def _bin(value: float) -> int:
    """The power of two at or below `value`."""
    return int(2 ** math.floor(math.log2(value)))


def _words(edge: int) -> str:
    return str(edge) if edge == 1 else f"{edge} to {2 * edge - 1}"


def _years_title(data: pd.DataFrame, field: str) -> str:
    middle = data.groupby("year")[field].median()
    first, last = int(middle.index.min()), int(middle.index.max())
    recent = middle.loc[last]
    what = "layer of experts" if field == "experts" else "top-k"
    return f"The median {what} went from {middle.loc[first]:,.0f} in {first} to {recent:,.0f} in {last}"
