"""Load: who does the work. Layer x expert around fair share, the sorted load curve, balance by layer, lift.

`load` frames: layer, expert, ratio (pairs received over the fair share of the layer; 1 is fair), pairs.
"""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from app.figure import Figure, around_one, diverging, draw, largest, log2_axis, paint, percent, times
from moe_core.report.text import many
from moe_core.units import significant


def heatmap(load: pd.DataFrame, *, domain: str = "all", click: bool = False, compact: bool = False) -> Figure:
    """Layer x expert, coloured around fair share. `click` adds a selection named `cell`."""
    powers, limit = around_one(load["ratio"])
    data = load.assign(log_ratio=powers, share=load["ratio"].map(times))
    layers = int(data["layer"].nunique())
    chart = (
        alt.Chart(data)
        .mark_rect(strokeWidth=2)
        .encode(
            x=alt.X("expert:O", title="expert", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("layer:O", title="layer"),
            color=diverging("log_ratio", "load", "fair", limit, top=compact),
            tooltip=[
                alt.Tooltip("layer:O"),
                alt.Tooltip("expert:O"),
                alt.Tooltip("share:N", title="of fair share"),
                alt.Tooltip("pairs:Q", title="routed pairs", format=","),
            ],
        )
        .properties(height=(30 * layers) + (130 if compact else 60))
    )
    if click:
        cell = alt.selection_point(name="cell", fields=["layer", "expert"], empty=False)
        chart = chart.encode(
            stroke=alt.when(cell).then(alt.value("#E69F00")).otherwise(alt.value("transparent"))
        ).add_params(cell)
    return draw(
        _heatmap_title(data, domain), _heatmap_alt(data, domain), chart, data.drop(columns="log_ratio")
    )


def _heatmap_title(data: pd.DataFrame, domain: str) -> str:
    hot = largest(data, "ratio")
    where = "" if domain == "all" else f" on {domain}"
    return (
        f"The hottest expert{where} does {times(hot['ratio'])} its fair share "
        f"(layer {int(hot['layer'])}, expert {int(hot['expert'])})"
    )


def _heatmap_alt(data: pd.DataFrame, domain: str) -> str:
    dead = int((data["pairs"] == 0).sum())
    return (
        f"Load of {many(data['expert'].nunique(), 'experts')} in {many(data['layer'].nunique(), 'layers')}, "
        f"{domain} text. "
        f"{_heatmap_title(data, domain)}. {dead} of {many(len(data), 'experts')} receive nothing."
    )


def curve(ranked: pd.DataFrame) -> Figure:
    """Experts of each layer sorted by load; `rank` 1, the busiest, is what the layer waits for."""
    data = ranked.assign(share=ranked["ratio"].map(times))
    lines = (
        alt.Chart(data)
        .mark_line(point=alt.OverlayMarkDef(size=22), opacity=0.8, strokeWidth=1.5)
        .encode(
            x=alt.X("rank:O", title="experts of the layer, busiest first", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("ratio:Q", title="load over fair share", axis=alt.Axis(labelExpr="datum.label + '×'")),
            color=alt.Color("layer:Q", scale=_layer_scale(data), legend=_layer_legend(data)),
            detail="layer:N",
            tooltip=["layer:O", "expert:O", "rank:O", alt.Tooltip("share:N", title="of fair share")],
        )
    )
    fair = alt.Chart(pd.DataFrame({"fair": [1.0]})).mark_rule(strokeDash=[4, 4], color="gray")
    hottest, worst = data.groupby("layer")["ratio"].max(), largest(data, "ratio")
    title = (
        f"A layer waits for its busiest expert: {times(float(hottest.median()))} fair share in the middle "
        f"layer, {times(worst['ratio'])} in the worst (layer {int(worst['layer'])})"
    )
    chart = (fair.encode(y="fair:Q") + lines).properties(height=300)
    return draw(title, f"Sorted load of the experts, one line a layer. {title}.", chart, data)


def _layer_scale(data: pd.DataFrame) -> alt.Scale:
    """Layers on the ramp without its faintest third, which is too near the background for a line."""
    first, last = int(data["layer"].min()), int(data["layer"].max())
    return alt.Scale(range="ramp", domain=[first - 0.5 * (last - first + 1), last], nice=False)


def _layer_legend(data: pd.DataFrame) -> alt.Legend:
    first, last = int(data["layer"].min()), int(data["layer"].max())
    return alt.Legend(title="layer", values=sorted({first, (first + last) // 2, last}), format="d")


MEASURES = {
    "entropy": "entropy (1 is even)",
    "cv": "coefficient of variation (0 is even)",
    "max_over_mean": "busiest over mean (1 is even)",
    "dead": "experts without work",
}


def balance(stats: pd.DataFrame) -> Figure:
    """Four measures of balance by layer. `stats`: layer, experts, entropy_bits, cv, max_over_mean, dead."""
    entropy = stats["entropy_bits"] / np.log2(stats["experts"].clip(lower=2))
    stats = stats.assign(entropy=entropy.where(stats["experts"] > 1, 1.0))
    long = stats.melt(id_vars="layer", value_vars=list(MEASURES), var_name="measure", value_name="value")
    long["measure"] = long["measure"].map(MEASURES)
    panels = [
        paint(alt.Chart(long[long["measure"] == name]).mark_bar(), "mixture")
        .encode(
            x=alt.X("layer:O", axis=alt.Axis(labelAngle=0)),
            y=alt.Y(
                "value:Q", title=None, axis=alt.Axis(tickCount=4, format="~g"), scale=_from_zero(long, name)
            ),
            tooltip=["layer:O", "measure:N", alt.Tooltip("value:Q", format=".3~g")],
        )
        .properties(title=alt.Title(name, fontSize=13, fontWeight="normal", offset=6), height=110)
        for name in MEASURES.values()
    ]
    worst, dead = largest(stats, "cv"), int(stats["dead"].sum())
    title = f"Layer {int(worst['layer'])} is the least even (variation {significant(worst['cv'])}); " + (
        f"{many(dead, 'experts')} without any work" if dead else "every expert has some work"
    )
    return draw(
        title,
        f"Entropy, variation, busiest over mean and dead experts by layer. {title}.",
        alt.vconcat(*panels).resolve_scale(color="shared"),
        stats,
    )


def _from_zero(long: pd.DataFrame, measure: str) -> alt.Scale:
    """Zero to the largest value, and at least to one where all is zero."""
    top = float(long.loc[long["measure"] == measure, "value"].max())
    return alt.Scale(domain=[0, top or 1.0])


def lift(frame: pd.DataFrame, layer: int, expert: int) -> Figure:
    """Which kinds of text one expert prefers. `frame`: name, lift (1 is indifferent), pairs."""
    data = frame.sort_values("lift", ascending=False)
    data = data.assign(over_chance=data["lift"].map(times), chance=1.0)
    bars = paint(alt.Chart(data).mark_bar(), "mixture").encode(
        y=alt.Y("name:N", sort=data["name"].tolist(), title=None),
        x=alt.X("lift:Q", title="lift over chance", axis=alt.Axis(labelExpr="datum.label + '×'")),
        x2="chance:Q",
        tooltip=[
            alt.Tooltip("name:N", title="text"),
            alt.Tooltip("over_chance:N", title="lift"),
            alt.Tooltip("pairs:Q", title="routed pairs", format=","),
        ],
    )
    chance = alt.Chart(data.head(1)).mark_rule(color="gray").encode(x="chance:Q")
    best = largest(data, "lift")
    title = f"Expert {expert} of layer {layer} prefers {best['name']}: {times(best['lift'])} chance"
    chart = (bars + chance).properties(height=24 * len(data) + 60)
    return draw(title, f"Lift over chance by kind of text. {title}.", chart, data.drop(columns="chance"))


def domains(load: pd.DataFrame, layer: int) -> Figure:
    """Domain x expert of one layer, around fair share. `load` has a `domain` column."""
    powers, limit = around_one(load["ratio"])
    data = load.assign(log_ratio=powers, share=load["ratio"].map(times))
    chart = (
        alt.Chart(data)
        .mark_rect()
        .encode(
            x=alt.X("expert:O", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("domain:N", title=None),
            color=diverging("log_ratio", "load", "fair", limit),
            tooltip=[
                "domain:N",
                "expert:O",
                alt.Tooltip("share:N", title="of fair share"),
                alt.Tooltip("pairs:Q", format=","),
            ],
        )
        .properties(height=24 * data["domain"].nunique() + 60)
    )
    hot = largest(data, "ratio")
    title = (
        f"In layer {layer}, {hot['domain']} leans most on one expert: "
        f"{times(hot['ratio'])} on expert {int(hot['expert'])}"
    )
    return draw(
        title,
        f"Load of experts by kind of text in layer {layer}. {title}.",
        chart,
        data.drop(columns="log_ratio"),
    )


# -- coactivation ------------------------------------------------------------------------------------
# Which experts of a layer work on the same token, over what chance would give. `together` frame:
# expert_a, expert_b, tokens (that both worked on), lift (over independence).


def coactivation(together: pd.DataFrame, layer: int) -> Figure:
    """Expert x expert, coloured around chance; the diagonal is left empty."""
    data = together[together["expert_a"] != together["expert_b"]]
    powers, limit = around_one(data["lift"])
    data = data.assign(log_lift=powers, over_chance=data["lift"].map(times))
    chart = (
        alt.Chart(data)
        .mark_rect()
        .encode(
            x=alt.X("expert_b:O", title="expert", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("expert_a:O", title="expert", axis=alt.Axis(labelOverlap=True)),
            color=diverging("log_lift", "over chance", "chance", limit),
            tooltip=[
                alt.Tooltip("expert_a:O", title="expert"),
                alt.Tooltip("expert_b:O", title="with expert"),
                alt.Tooltip("over_chance:N", title="over chance"),
                alt.Tooltip("tokens:Q", title="tokens together", format=","),
            ],
        )
        .properties(height=420)
    )
    title = _title(data, layer)
    return draw(title, f"How often two experts of layer {layer} share a token. {title}.", chart, data)


def _title(data: pd.DataFrame, layer: int) -> str:
    seen = data[(data["tokens"] > 0) & (data["expert_a"] < data["expert_b"])]
    if seen.empty:
        return f"No two experts of layer {layer} ever work on the same token"
    top = largest(seen, "lift")
    return (
        f"In layer {layer}, experts {int(top['expert_a'])} and {int(top['expert_b'])} work together "
        f"{times(float(top['lift']))} as often as chance"
    )


# -- distinct ----------------------------------------------------------------------------------------
# What a step must read, recorded beside the uniform formula. `touched` frame: grouping, layer, size
# (tokens), distinct, uniform (E (1 - (1 - k/E)^size)).


GROUPINGS = {"decode": "one token of each sequence (decode)", "consecutive": "tokens in a row (prefill)"}


def distinct(touched: pd.DataFrame, experts: int) -> Figure:
    """Recorded points, mean and range over layers, over the dashed formula; grey are all experts."""
    data = _over_layers(touched)
    x = log2_axis("size", "tokens in the step", data["size"].tolist())
    top = alt.Scale(domain=[0, experts * 1.06], nice=False)
    y = alt.Y("distinct:Q", title="distinct experts in a layer, mean of layers", scale=top)
    names = [name for name in GROUPINGS.values() if name in set(data["grouping"])]
    shape = alt.Shape(
        "grouping:N",
        scale=alt.Scale(domain=names, range=["circle", "square"]),
        legend=alt.Legend(orient="top", title=None, labelLimit=260, symbolFillColor="gray"),
    )
    tip = [
        "size:Q",
        "grouping:N",
        alt.Tooltip("distinct:Q", format=".3~g"),
        alt.Tooltip("uniform:Q", format=".3~g"),
    ]
    base, formula = alt.Chart(data), data.drop_duplicates("size").sort_values("size")
    band = base.mark_area(opacity=0.14).encode(x=x, y="low:Q", y2="high:Q", detail="grouping:N")
    line = base.mark_line(strokeWidth=1.2).encode(x=x, y=y, detail="grouping:N")
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, shape=shape, tooltip=tip)
    dashed = alt.Chart(formula).mark_line(strokeDash=[6, 4], color="gray").encode(x=x, y="uniform:Q")
    word = (
        alt.Chart(formula.iloc[[len(formula) // 2]])
        .mark_text(align="right", dx=-8, dy=-8, fontStyle="italic")
        .encode(x=x, y="uniform:Q", text=alt.value("uniform formula"))
    )
    every = alt.Chart(pd.DataFrame({"all": [experts]})).mark_rule(color="gray").encode(y="all:Q")
    word = paint(word, "limit")
    recorded = [paint(band, "mixture"), paint(line, "mixture", stroke=True), paint(dots, "mixture")]
    title = _distinct_title(data, experts)
    chart = alt.layer(every, dashed, word, *recorded).properties(height=340)
    return draw(title, f"Distinct experts against tokens in a step. {title}.", chart, data)


def _over_layers(touched: pd.DataFrame) -> pd.DataFrame:
    grouped = touched.groupby(["grouping", "size"], as_index=False)
    data = grouped.agg(
        distinct=("distinct", "mean"),
        low=("distinct", "min"),
        high=("distinct", "max"),
        uniform=("uniform", "mean"),
    )
    return data.assign(grouping=data["grouping"].map(GROUPINGS))


def _distinct_title(data: pd.DataFrame, experts: int) -> str:
    """Says where the formula is most wrong: that is what a step's cost depends on."""
    data = data.assign(error=(data["uniform"] / data["distinct"] - 1).abs())
    worst = largest(data, "error")
    direction = "above" if worst["uniform"] > worst["distinct"] else "below"
    return (
        f"{many(int(worst['size']), 'tokens')} in a step: {significant(worst['distinct'])} of "
        f"{many(experts, 'experts')} are touched; "
        f"the uniform formula is {percent(worst['error'])} {direction} that, its largest error"
    )


# -- raster ------------------------------------------------------------------------------------------
# Expert x token for one layer, one sequence. Only the routed pairs are drawn: the rest is empty. `pairs`
# frame: position, expert, weight, slot, byte; word and token_id of a token of a tokenizer.


SHOWN = 256  # positions drawn at once: a wider raster has cells below a pixel


def printable(byte: int) -> str:
    """How one byte is shown: itself, a name, or its hexadecimal value."""
    names = {9: "tab", 10: "newline", 32: "space"}
    return names.get(byte) or (chr(byte) if 33 <= byte < 127 else f"0x{byte:02X}")


def written(tokens: pd.DataFrame) -> list[str]:
    """How each token is shown: a byte, its string, its number, or nothing where it is not told."""
    rows = tokens.reindex(columns=["byte", "word", "token_id"]).astype(object)
    return [
        printable(int(byte))
        if pd.notna(byte)
        else str(word)
        if pd.notna(word)
        else f"#{int(token)}"
        if pd.notna(token)
        else ""
        for byte, word, token in rows.itertuples(index=False)
    ]


def raster(pairs: pd.DataFrame, layer: int, experts: int) -> Figure:
    """Which experts each token went to; a darker cell is a larger weight."""
    data = pairs.assign(character=written(pairs), weight=pairs["weight"].fillna(1.0))
    equal = bool(data["weight"].max() - data["weight"].min() < 1e-6)
    field, legend = ("slot", "choice (0 is first)") if equal else ("weight", "weight")
    colour = alt.Color(
        f"{field}:Q",
        scale=alt.Scale(range="ramp", reverse=equal),
        legend=alt.Legend(title=legend, tickMinStep=1 if equal else 0.05),
    )
    start, stop = int(data["position"].min()), int(data["position"].max()) + 1
    chart = (
        alt.Chart(data)
        .mark_rect()
        .encode(
            x=alt.X(
                "position:Q",
                title="position in the text (tokens)",
                bin=alt.Bin(binned=True, step=1),
                scale=alt.Scale(domain=[start, stop], nice=False),
                axis=alt.Axis(tickMinStep=1, grid=False),
            ),
            x2="end:Q",
            y=alt.Y("expert:O", title="expert", scale=alt.Scale(domain=list(range(experts)))),
            color=colour,
            tooltip=[
                "position:Q",
                alt.Tooltip("character:N", title="token"),
                "expert:O",
                alt.Tooltip("slot:O", title="choice"),
                alt.Tooltip("weight:Q", format=".3~g"),
            ],
        )
        .transform_calculate(end="datum.position + 1")
        .properties(height=min(560, max(180, 16 * experts)))
    )
    title, shown = _raster_title(data, layer), many(stop - start, "tokens")
    return draw(title, f"Expert by position for {shown} in layer {layer}. {title}.", chart, data)


def _raster_title(data: pd.DataFrame, layer: int) -> str:
    """How sticky routing is: the share of neighbours that keep their first choice."""
    first = data[data["slot"] == 0].sort_values("position")["expert"]
    kept = float((first == first.shift()).iloc[1:].mean()) if len(first) > 1 else 0.0
    return f"In layer {layer}, {percent(kept)} of neighbouring tokens keep the same first expert"


# -- wanted ------------------------------------------------------------------------------------------
# What the router would like against what it chooses, one point an expert and layer.


def wanted(probabilities: pd.DataFrame, load: pd.DataFrame) -> Figure:
    """`probabilities`: layer, expert, probability (mean over all text); `load`: layer, expert, ratio.

    Above the diagonal an expert gets more than it is wanted: choosing the best k sharpens a router.
    """
    mean = probabilities.groupby(["layer", "expert"], as_index=False)["probability"].mean()
    fair = mean.groupby("layer")["probability"].transform("mean")
    data = mean.assign(wanted=mean["probability"] / fair).merge(load, on=["layer", "expert"])
    data = data.assign(wants=data["wanted"].map(times), gets=data["ratio"].map(times))
    ends = [float(data[["wanted", "ratio"]].min().min()), float(data[["wanted", "ratio"]].max().max())]
    diagonal = alt.Chart(pd.DataFrame({"wanted": ends, "ratio": ends})).mark_line(
        strokeDash=[4, 4], color="gray"
    )
    points = paint(alt.Chart(data).mark_point(filled=True, opacity=0.7, size=40), "mixture").encode(
        tooltip=[
            "layer:O",
            "expert:O",
            alt.Tooltip("wants:N", title="probability over fair"),
            alt.Tooltip("gets:N", title="load over fair"),
        ]
    )
    ratio = alt.Axis(labelExpr="datum.label + '×'")
    chart = (diagonal + points).encode(
        x=alt.X(
            "wanted:Q",
            title="mean router probability over fair share",
            axis=ratio,
            scale=alt.Scale(zero=False),
        ),
        y=alt.Y("ratio:Q", title="load over fair share", axis=ratio, scale=alt.Scale(zero=False)),
    )
    hot = largest(data, "ratio")
    title = (
        f"The busiest expert is wanted {times(hot['wanted'])} its fair share and gets {times(hot['ratio'])} "
        f"(layer {int(hot['layer'])}, expert {int(hot['expert'])})"
    )
    words = f"Load against mean router probability, {len(data)} experts of all layers. {title}."
    return draw(title, words, chart.properties(height=300), data)
