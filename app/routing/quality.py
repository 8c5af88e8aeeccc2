"""Quality: bits per byte, lower is better. Against k for every way of choosing experts, and by domain.

`quality` frame: model (dense|moe|random|oracle), top_k, domain, bits_per_byte.
"""

from __future__ import annotations

import altair as alt
import pandas as pd

from app.figure import Figure, draw, largest, log2_axis, paint, percent, roles, shapes

SERIES = {
    "dense": "dense",
    "dense_active": "dense, nearest active size",
    "moe": "mixture (fitted router)",
    "oracle": "mixture (oracle router)",
    "random": "mixture (random router)",
}
_ROLE = {"dense": "dense", "dense_active": "dense", "moe": "mixture", "oracle": "mixture", "random": "limit"}
_DASHES = {
    "dense": [1, 0],
    "dense, nearest active size": [4, 2],
    "mixture (fitted router)": [1, 0],
    "mixture (oracle router)": [6, 3],
    "mixture (random router)": [2, 3],
}


def against_k(quality: pd.DataFrame, top_k: int) -> Figure:
    """Bits per byte against k; a marker on the k of the scenario."""
    data = _named(quality[quality["domain"] == "all"])
    x = log2_axis("top_k", "experts per byte (k)", data["top_k"].tolist())
    names = [name for name in SERIES.values() if name in set(data["series"])]
    dashes = alt.Scale(domain=names, range=[_DASHES[name] for name in names])
    base = alt.Chart(data).encode(
        x=x,
        y=alt.Y("bits_per_byte:Q", title="bits per byte, lower is better", scale=alt.Scale(zero=False)),
        detail="series:N",
    )
    tip = ["series:N", alt.Tooltip("top_k:Q", title="k"), alt.Tooltip("bits_per_byte:Q", format=".3f")]
    colour = roles("role", legend=False)
    lines = base.mark_line(strokeWidth=2).encode(
        color=colour, strokeDash=alt.StrokeDash("series:N", scale=dashes, legend=None)
    )
    dots = base.mark_point(filled=True, size=45, opacity=1).encode(color=colour, tooltip=tip)
    labels = [_label(base, name, sorted(int(k) for k in data["top_k"].unique())) for name in names]
    here = alt.Chart(pd.DataFrame({"top_k": [top_k]})).mark_rule(strokeDash=[2, 3], color="gray").encode(x=x)
    title = _sweep_title(data, top_k)
    return draw(
        title,
        f"Bits per byte against k. {title}.",
        alt.layer(here, lines, dots, *labels).properties(height=340),
        data,
    )


def _label(base: alt.Chart, series: str, ks: list[int]) -> alt.Chart:
    """The name of a line, written on it: above its left end, or below where a line is close above."""
    below = series == SERIES["oracle"] and len(ks) > 1
    align, dx, dy = ("right", -4, 16) if below else ("left", 8, -9)
    here = base.transform_filter(f"datum.series === '{series}' && datum.top_k == {ks[1 if below else 0]}")
    text = here.mark_text(align=align, dx=dx, dy=dy, fontSize=12)
    return text.encode(text="series:N", color=roles("role", legend=False))


def _sweep_title(data: pd.DataFrame, top_k: int) -> str:
    closed = gap_closed(data, top_k)
    if closed is None:
        return "Quality against the number of experts a byte visits"
    return (
        f"At k = {top_k} the fitted router closes {percent(closed)} of the gap from random routing to dense"
    )


def gap_closed(quality: pd.DataFrame, top_k: int) -> float | None:
    """(random - mixture) / (random - dense) at `top_k`, over all domains; None when a series is missing."""
    here = quality[(quality["domain"] == "all") & (quality["top_k"] == top_k)]
    bits = dict(zip(here["model"], here["bits_per_byte"], strict=True))
    dense = quality.loc[(quality["domain"] == "all") & (quality["model"] == "dense"), "bits_per_byte"]
    bits.setdefault("dense", float(dense.iloc[0]) if len(dense) else None)
    if None in (bits.get("dense"), bits.get("moe"), bits.get("random")) or bits["random"] == bits["dense"]:
        return None
    return float((bits["random"] - bits["moe"]) / (bits["random"] - bits["dense"]))


def by_domain(quality: pd.DataFrame) -> Figure:
    """Bits per byte of every kind of text, dense against mixture: the line between them is the price."""
    data = _named(quality[(quality["domain"] != "all") & quality["model"].isin(["dense", "moe"])])
    order = data[data["model"] == "moe"].sort_values("bits_per_byte")["domain"].tolist()
    y = alt.Y("domain:N", title=None, sort=order)
    wide = data.pivot_table(index="domain", columns="role", values="bits_per_byte").reset_index()
    price = alt.Chart(wide).mark_rule(strokeWidth=2, color="gray").encode(y=y, x="dense:Q", x2="mixture:Q")
    points = (
        alt.Chart(data)
        .mark_point(filled=True, size=90, opacity=1)
        .encode(
            y=y,
            x=alt.X("bits_per_byte:Q", title="bits per byte, lower is better", scale=alt.Scale(zero=False)),
            color=roles("role"),
            shape=shapes("role"),
            tooltip=[
                "domain:N",
                alt.Tooltip("role:N", title="model"),
                alt.Tooltip("bits_per_byte:Q", format=".3f"),
            ],
        )
    )
    wide["price"] = wide["mixture"] / wide["dense"] - 1
    worst = largest(wide, "price")
    title = f"The mixture pays most on {worst['domain']}: {percent(float(worst['price']))} more bits per byte"
    return draw(
        title,
        f"Bits per byte by kind of text. {title}.",
        (price + points).properties(height=26 * len(wide) + 110),
        data,
    )


def _named(quality: pd.DataFrame) -> pd.DataFrame:
    return quality.assign(series=quality["model"].map(SERIES), role=quality["model"].map(_ROLE))


def summary(bits: dict[str, float]) -> Figure:
    """Bits per byte of one run: dense, oracle, fitted and random routing, one bar each."""
    rows = [
        {
            "series": SERIES[name],
            "role": _ROLE[name],
            "bits_per_byte": bits[name],
            "text": f"{bits[name]:.3f}",
        }
        for name in ("dense", "oracle", "moe", "dense_active", "random")
        if bits.get(name) is not None
    ]
    data = pd.DataFrame(rows)
    base = alt.Chart(data).encode(
        y=alt.Y("series:N", sort=[row["series"] for row in rows], title=None, axis=alt.Axis(labelLimit=200)),
        x=alt.X("bits_per_byte:Q", title="bits per byte, lower is better", axis=alt.Axis(tickCount=4)),
    )
    bars = base.mark_bar(height=18).encode(
        color=roles("role", legend=False),
        opacity=alt.condition(
            "datum.series == 'dense' || datum.series == 'mixture (fitted router)'",
            alt.value(0.9),
            alt.value(0.4),
        ),
        tooltip=["series:N", alt.Tooltip("bits_per_byte:Q", format=".3f")],
    )
    words = paint(base.mark_text(align="left", dx=5), "ink").encode(text="text:N")
    title = f"The mixture costs {bits['moe'] - bits['dense']:+.3f} bits per byte"
    if None not in (bits.get("random"), bits.get("dense")) and bits["random"] != bits["dense"]:
        closed = (bits["random"] - bits["moe"]) / (bits["random"] - bits["dense"])
        title += f"; its router closes {percent(closed)} of the gap from random routing"
    return draw(
        title, f"Bits per byte of the test models. {title}.", (bars + words).properties(height=170), data
    )
