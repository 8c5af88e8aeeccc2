"""Memory: what fills it, predicted beside measured, and whether the full size fits a device.

`memory` frame: model (dense|moe), component, predicted_bytes, measured_bytes (missing where not measured).
`sizes` frame: name, component, bytes.
"""

from __future__ import annotations

from math import ceil

import altair as alt
import pandas as pd

from app.figure import (
    BYTE_AXIS,
    TIME_AXIS,
    Figure,
    draw,
    label_models,
    largest,
    layers,
    log2_axis,
    paint,
    percent,
    roles,
    times,
)
from moe_core.perf.fit import WIDEST
from moe_core.report.palette import GROUPS, ROLES, SHADES, STACK, part_of
from moe_core.report.text import many
from moe_core.units import quantity, significant

ORDER = (
    "embedding",
    "head",
    "attention",
    "ffn",
    "experts",
    "shared",
    "router",
    "norms",
    "kv_cache",
    "state",
    "activations",
)
NAMES = {"ffn": "dense FFN", "kv_cache": "KV cache", "head": "output head", "state": "recurrent state"}


def predicted(memory: pd.DataFrame, model: str) -> Figure:
    """Predicted (dashed outline) beside measured (solid) bytes of one model, component by component."""
    part = memory[(memory["model"] == model) & (memory["predicted_bytes"].fillna(0) > 0)]
    rows = [
        {"model": model, "component": component, "kind": kind, "bytes": size}
        for kind in ("predicted", "measured")
        for component, size in zip(part["component"], part[f"{kind}_bytes"], strict=True)
        if pd.notna(size)
    ]
    long = pd.DataFrame(rows, columns=["model", "component", "kind", "bytes"])
    data = label_models(long).assign(
        text=long["bytes"].map(lambda b: quantity(float(b), "B")), component=long["component"].map(_name)
    )
    y = alt.Y("component:N", title=None, sort=[_name(c) for c in (*ORDER, "total")])
    offset = alt.YOffset("kind:N", sort=["measured", "predicted"])
    base = alt.Chart().encode(
        y=y,
        yOffset=offset,
        x=alt.X("bytes:Q", title="bytes", axis=alt.Axis(labelExpr=BYTE_AXIS, tickCount=6)),
        tooltip=[alt.Tooltip("component:N"), alt.Tooltip("kind:N"), alt.Tooltip("text:N", title="size")],
    )
    label = "dense" if model == "dense" else "mixture"
    edge = alt.Stroke("model:N", scale=alt.Scale(domain=list(ROLES)), legend=None)
    measured = base.transform_filter(alt.datum.kind == "measured").mark_bar()
    expected = base.transform_filter(alt.datum.kind == "predicted")
    solid = measured.encode(color=roles(legend=False))
    dashed = expected.mark_bar(fillOpacity=0.15, strokeDash=[4, 3], strokeWidth=1.5)
    dashed = dashed.encode(color=roles(legend=False), stroke=edge)
    words = paint(base.mark_text(align="left", dx=5, fontSize=11), "ink").encode(text=alt.Text("text:N"))
    title = _predicted_title(part, label)
    chart = layers(dashed, solid, words, data=data, height=34 * data["component"].nunique() + 60)
    return draw(title, f"Predicted and measured memory of the {label} test model. {title}.", chart, data)


def _predicted_title(part: pd.DataFrame, label: str) -> str:
    both = part.dropna(subset="measured_bytes").set_index("component")
    rest = both.drop(index="total", errors="ignore")
    if rest.empty:
        return f"Nothing of the {label} model could be measured on this device"
    error = float(rest["predicted_bytes"].sum() / rest["measured_bytes"].sum() - 1)
    return f"Prediction and measurement of the {label} model's tensors differ by {percent(abs(error))}"


def budget(sizes: pd.DataFrame, capacity: float, device: str, title: str | None = None) -> Figure:
    """Stacked bars against a device's capacity: it fits when the bar ends left of the grey line.

    `title` says another finding than what fills the first bar.
    """
    data = _grouped(sizes)
    names = list(dict.fromkeys(data["name"]))
    totals = data.groupby("name", sort=False)["bytes"].sum().reset_index()
    totals["text"] = totals["bytes"].map(lambda b: quantity(float(b), "B"))
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=210, minExtent=130))
    present = [name for name in GROUPS if name in set(data["part"])]
    amounts = paint(alt.Chart(totals).mark_text(align="left", dx=6, fontWeight="bold"), "ink")
    chart = layers(
        _stacked(data, y, present),
        *_capacity(capacity, float(totals["bytes"].max()), device),
        amounts.encode(y=y, x=alt.X("bytes:Q"), text=alt.Text("text:N")),
        height=46 * len(names) + 90 + 16 * ceil(len(present) / 2),
    )
    title = title or _biggest(data)
    first = float(totals["bytes"].iloc[0])
    words = f"Memory by component against {device}. {fits(names[0], first, capacity, device)}. {title}."
    return draw(title, words, chart, sizes)


def _stacked(data: pd.DataFrame, y: alt.Y, present: list[str]) -> alt.Chart:
    """One bar a name, its components side by side; those that are there stand in the legend."""
    legend = alt.Legend(orient="top", title=None, columns=2, values=present, labelLimit=200)
    shades = alt.Scale(type="ordinal", domain=list(GROUPS), range=[SHADES[part] for part in GROUPS])
    axis = alt.Axis(labelExpr=BYTE_AXIS, tickCount=6)
    return (
        alt.Chart(data)
        .mark_bar(height=26)
        .encode(
            y=y,
            x=alt.X("bytes:Q", title="bytes", stack="zero", axis=axis),
            color=alt.Color("part:N", scale=alt.Scale(domain=list(GROUPS), range="category"), legend=legend),
            order=alt.Order("order:Q"),
            opacity=alt.Opacity("part:N", scale=shades, legend=legend),
            tooltip=[
                alt.Tooltip("name:N"),
                alt.Tooltip("part:N", title="component"),
                alt.Tooltip("text:N", title="size"),
            ],
        )
    )


def _capacity(capacity: float, largest_bar: float, device: str) -> tuple[alt.Chart, alt.Chart]:
    """What a device can give: a rule, and its words on the side where there is room."""
    words = f"usable of {device}: {quantity(capacity, 'B')}"
    limit = alt.Chart(pd.DataFrame({"bytes": [capacity], "text": [words]}))
    rule = limit.mark_rule(strokeWidth=2.5, color="gray").encode(x=alt.X("bytes:Q"))
    right = capacity > 0.6 * max(largest_bar, capacity)
    name = paint(limit.mark_text(align="right" if right else "left", dx=-6 if right else 6), "limit")
    return rule, name.encode(x=alt.X("bytes:Q"), y=alt.YValue(-8), text=alt.Text("text:N"))


def _biggest(data: pd.DataFrame) -> str:
    """What fills the first bar."""
    first = data[data["name"] == data["name"].iloc[0]]
    top, whole = largest(first, "bytes"), float(first["bytes"].sum())
    return f"{top['part'][:1].upper()}{top['part'][1:]}: {percent(top['bytes'] / whole)} of {top['name']}"


def fits(name: str, need: float, room: float, device: str) -> str:
    """Whether `need` bytes go into `room`, and by how much."""
    if need <= room:
        return f"{name} fits {device} with {quantity(room - need, 'B')} to spare"
    return f"{name} needs {times(need / room)} what {device} can give: {quantity(need - room, 'B')} too much"


def _grouped(sizes: pd.DataFrame) -> pd.DataFrame:
    """Components folded into `GROUPS`, in drawing order: weights, then cache, then activations."""
    parts = sizes.assign(part=sizes["component"].map(part_of))
    data = parts.groupby(["name", "part"], sort=False, as_index=False)["bytes"].sum()
    rank = {name: index for index, name in enumerate(STACK)}
    text = data["bytes"].map(lambda b: quantity(float(b), "B"))
    return data.assign(order=data["part"].map(rank), text=text)


def small(parts: pd.DataFrame, capacity: float | None) -> Figure:
    """Two bars, dense and mixture, for the overview. `parts`: model, bytes."""
    data = label_models(parts).assign(text=parts["bytes"].map(lambda b: quantity(float(b), "B")))
    base = alt.Chart(data).encode(
        y=alt.Y("model:N", title=None, sort=["dense", "mixture"], axis=alt.Axis(labels=False))
    )
    bars = base.mark_bar(height=22).encode(
        x=alt.X("bytes:Q", title=None, axis=alt.Axis(labelExpr=BYTE_AXIS, tickCount=4)),
        color=roles(legend=False),
    )
    words = paint(base.mark_text(align="left", dx=6, fontWeight="bold"), "ink")
    chart = bars + words.encode(x=alt.X("bytes:Q"), text=alt.Text("text:N"))
    if capacity is not None and capacity < 20 * data["bytes"].max():
        chart = (
            alt.Chart(pd.DataFrame({"c": [capacity]}))
            .mark_rule(strokeWidth=2, color="gray")
            .encode(x=alt.X("c:Q"))
            + chart
        )
    ratio = float(
        data.set_index("model")["bytes"].get("mixture", 0) / data.set_index("model")["bytes"].get("dense", 1)
    )
    title = f"At its peak the mixture holds {times(ratio)} the dense model's memory"
    return draw(title, f"Peak memory of both test models. {title}.", chart.properties(height=110), data)


def _name(component: str) -> str:
    return NAMES.get(component, component)


# -- capacity ----------------------------------------------------------------------------------------
# How many of each device a model takes, what its cache grows to, what offloading changes.


def devices(every: pd.DataFrame, name: str) -> Figure:
    """Solid: what one device can give; lighter: as many as it takes; the rule is what the model needs.

    `every`: device, usable, need, devices (missing: no number is enough), cost (US dollars an hour).
    """
    data = every.assign(
        number=every["devices"].fillna(0).astype(int),
        together=every["usable"] * every["devices"].fillna(1),
        text=[_takes(n, c) for n, c in zip(every["devices"], every["cost"], strict=True)],
        one=every["usable"].map(lambda b: quantity(float(b), "B")),
    )
    need = float(data["need"].iloc[0])
    room = alt.Scale(domain=[0, max(need, float(data["together"].max())) * 1.3], nice=False)
    y = alt.Y("device:N", sort=data["device"].tolist(), title=None, axis=alt.Axis(labelLimit=180))
    x = alt.X("usable:Q", title="usable memory", scale=room, axis=alt.Axis(labelExpr=BYTE_AXIS, tickCount=6))
    tip = [
        alt.Tooltip("device:N"),
        alt.Tooltip("one:N", title="one can give"),
        alt.Tooltip("text:N", title="takes"),
    ]
    base = alt.Chart(data).encode(y=y, tooltip=tip)
    light = paint(base.mark_bar(height=15, opacity=0.3), "limit").encode(x=alt.X("together:Q", scale=room))
    solid = paint(base.mark_bar(height=15, opacity=0.9), "limit").encode(x=x)
    words = paint(alt.Chart(data).mark_text(align="left", dx=6), "ink")
    words = words.encode(y=y, x=alt.X("together:Q", scale=room), text=alt.Text("text:N"))
    line = alt.Chart(pd.DataFrame({"need": [need], "text": [f"needs {quantity(need, 'B')}"]}))
    rule = paint(line.mark_rule(strokeWidth=2.5), "mixture", stroke=True).encode(x=alt.X("need:Q"))
    label = paint(line.mark_text(align="left", dx=5), "mixture")
    label = label.encode(x=alt.X("need:Q"), y=alt.YValue(-8), text=alt.Text("text:N"))
    chart = layers(light, solid, rule, label, words, height=26 * len(data) + 70)
    title = _devices_title(data, name)
    return draw(title, f"Devices that {name} takes. {title}.", chart, every)


def _takes(number: float, cost: float) -> str:
    if pd.isna(number):
        return f"not on {WIDEST}"
    return f"{int(number)} needed" + ("" if pd.isna(cost) else f", ${significant(float(cost))} an hour")


def _devices_title(data: pd.DataFrame, name: str) -> str:
    alone = int((data["number"] == 1).sum())
    words = _alone(name, alone, len(data))
    priced = data.dropna(subset="cost")
    if priced.empty:
        return words
    cheap = priced.nsmallest(1, "cost").to_dict("records")[0]
    number = f"{cheap['number']} × " if cheap["number"] > 1 else "one "
    return f"{words}; the cheapest by the hour is {number}{cheap['device']}, ${significant(cheap['cost'])}"


def _alone(name: str, fit: int, kinds: int) -> str:
    """On how many kinds of device one is enough."""
    if fit == 0:
        return f"{name} fits on no single device of {kinds} kinds"
    return f"{name} fits on a single device of {'every kind' if fit == kinds else f'{fit} of {kinds} kinds'}"


def smallest(rows: pd.DataFrame, room: float, device: str) -> str:
    """The finding of a chart of formats: the smallest one, and how many fit. `rows`: name, bytes."""
    totals = rows.groupby("name", sort=False)["bytes"].sum()
    least, most = str(totals.idxmin()), float(totals.max())
    fits = int((totals <= room).sum())
    words = f"{least} is the smallest, {times(most / float(totals.min()))} below the largest"
    return f"{words}; {fits} of {len(totals)} fit {device}"


def first_split(rows: pd.DataFrame, room: float, device: str) -> str:
    """The finding of a chart of layouts, fewest devices first: the first that fits. `rows`: name, bytes."""
    totals = rows.groupby("name", sort=False)["bytes"].sum()
    fits = [str(name) for name, held in totals.items() if held <= room]
    if not fits:
        return f"No layout of up to 64 devices brings it below what {device} can give"
    number, layout = fits[0].split(": ")
    if number == "1":
        return f"It fits on one {device}; splitting it makes room for longer contexts"
    return f"It takes {number} × {device}, split as {layout}"


def contexts(kept: pd.DataFrame, context: int, form: str) -> Figure:
    """Cache of one sequence against its length, log against log. `kept`: kind, context, bytes."""
    data = kept[kept["bytes"] > 0].assign(text=lambda f: f["bytes"].map(lambda b: quantity(float(b), "B")))
    x = log2_axis("context", "tokens in the sequence", data["context"].tolist())
    x.axis = alt.Axis(values=[2**i for i in range(9, 21)], format=",d", labelOverlap=True)
    y = alt.Y(
        "bytes:Q", title=f"cache of one sequence, {form}", scale=alt.Scale(type="log"), axis=_bytes_axis()
    )
    base = alt.Chart(data).encode(
        x=x,
        y=y,
        detail=alt.Detail("kind:N"),
        tooltip=[alt.Tooltip("kind:N"), alt.Tooltip("context:Q"), alt.Tooltip("text:N")],
    )
    mine, others = "datum.kind == 'as it is'", "datum.kind != 'as it is'"
    own = paint(base.transform_filter(mine).mark_line(strokeWidth=3), "mixture", stroke=True)
    rest = base.transform_filter(others).mark_line(strokeDash=[6, 4], strokeWidth=1.5, color="gray")
    ends = alt.Chart(_apart(data[data["context"] == data["context"].max()]))
    names = paint(ends.mark_text(align="left", dx=6), "ink").encode(
        x=x, y=alt.Y("place:Q"), text=alt.Text("kind:N")
    )
    here = alt.Chart(pd.DataFrame({"context": [context]})).mark_rule(strokeDash=[2, 3], color="gray")
    padding = {"right": 130, "left": 5, "top": 5, "bottom": 5}
    chart = layers(here.encode(x=x), rest, own, names, height=340, padding=padding)
    title = _contexts_title(data, context)
    return draw(
        title, f"Cache of one sequence against its length, by kind of attention. {title}.", chart, data
    )


_LINE = 2.0  # a line of text is so much of a logarithmic axis over six decades


def _apart(ends: pd.DataFrame) -> pd.DataFrame:
    """Labels at the right end, moved up where they would touch the one below; equal curves share one."""
    merged = ends.groupby("bytes", as_index=False).agg(
        kind=("kind", " = ".join), context=("context", "first")
    )
    places: list[float] = []
    for value in merged["bytes"].sort_values():
        places.append(max(float(value), places[-1] * _LINE) if places else float(value))
    return merged.sort_values("bytes").assign(place=places)


def _bytes_axis() -> alt.Axis:
    return alt.Axis(labelExpr=BYTE_AXIS, values=[10**e for e in range(3, 14)])


def _contexts_title(data: pd.DataFrame, context: int) -> str:
    at = data[data["context"] == context]
    own = at[at["kind"] == "as it is"]
    if own.empty:
        return f"Nothing is kept of a sequence of {many(context, 'tokens')}"
    kept = float(own["bytes"].iloc[0])
    words = f"One sequence of {many(context, 'tokens')} keeps {quantity(kept, 'B')}"
    full = at[at["kind"] == "MHA"]
    if full.empty or float(full["bytes"].iloc[0]) == kept:
        return words
    return f"{words}; with MHA in every layer it would be {times(float(full['bytes'].iloc[0]) / kept)} that"


def offload(shares: pd.DataFrame, room: float, device: str, tokens: int) -> Figure:
    """Bytes left on the device against the share of the experts in host memory.

    `shares`: share (of the experts in host memory), device, host, crossing (bytes), seconds.
    """
    data = _offloaded(shares)
    held = _dashed(data).encode(y=alt.Y("device:Q", title="on the device", axis=_linear(BYTE_AXIS)))
    limit = alt.Chart(pd.DataFrame({"room": [room], "share": [1.0], "text": [f"usable of {device}"]}))
    rule = limit.mark_rule(strokeWidth=2, color="gray").encode(y=alt.Y("room:Q"))
    word = paint(limit.mark_text(align="right", dy=-8), "limit").encode(
        x=alt.X("share:Q"), y=alt.Y("room:Q"), text=alt.Text("text:N")
    )
    title = _offload_title(data, room, device, tokens)
    words = f"Bytes on the device against the share of experts in host memory. {title}."
    return draw(title, words, layers(rule, word, held, height=280), data)


def waiting(shares: pd.DataFrame, tokens: int) -> Figure:
    """The least time that a decode step waits for the link, against the same share."""
    data = _offloaded(shares)
    y = alt.Y("seconds:Q", title="a step waits at least", axis=_linear(TIME_AXIS))
    there = data.assign(seconds=data["computed"])
    lines = [_dashed(data).encode(y=y), _dashed(there).encode(y=y, strokeDash=alt.value([2, 3]))]
    whole = largest(data, "share")
    names = pd.DataFrame(
        [{"share": 1.0, "seconds": whole[name], "text": text} for name, text in _WAYS.items()]
    )
    labels = alt.Chart(names).mark_text(align="right", dy=-8).encode(x="share:Q", y=y, text="text:N")
    moved, step = quantity(float(whole["crossing"]), "B"), many(tokens, "tokens")
    here = quantity(float(whole["computed"]), "s")
    all_out = f"With every expert on the host, a step of {step}"
    title = f"{all_out} moves {moved}: {whole['wait']} or more; computed there, {here}"
    words = f"Least time a decode step waits for experts from host memory. {title}."
    return draw(title, words, layers(*lines, labels, height=280), data)


_WAYS = {"seconds": "moved over the link", "computed": "computed on the host"}


def _offloaded(shares: pd.DataFrame) -> pd.DataFrame:
    return shares.assign(
        on=shares["device"].map(lambda b: quantity(float(b), "B")),
        off=shares["host"].map(lambda b: quantity(float(b), "B")),
        wait=shares["seconds"].map(lambda s: quantity(float(s), "s")),
    )


def _dashed(data: pd.DataFrame) -> alt.Chart:
    """Modelled: a dashed line over the share."""
    x = alt.X(
        "share:Q",
        title="share of the routed experts in host memory",
        axis=alt.Axis(format=".0%", tickCount=6),
        scale=alt.Scale(domain=[0, 1]),
    )
    tip = [
        alt.Tooltip("share:Q", format=".0%"),
        alt.Tooltip("on:N", title="on the device"),
        alt.Tooltip("off:N", title="on the host"),
        alt.Tooltip("wait:N", title="a step waits"),
    ]
    line = alt.Chart(data).mark_line(strokeWidth=2, strokeDash=[6, 4], point=True).encode(x=x, tooltip=tip)
    return paint(line, "mixture", stroke=True)


def _linear(expression: str) -> alt.Axis:
    return alt.Axis(labelExpr=expression, tickCount=4)


def _offload_title(data: pd.DataFrame, room: float, device: str, tokens: int) -> str:
    fits = data[data["device"] <= room]
    step = f"a step of {many(tokens, 'tokens')}"
    if fits.empty:
        least = largest(data, "share")
        return f"Even with every expert on the host, {least['on']} stay: more than {device} can give"
    first = fits.nsmallest(1, "share").to_dict("records")[0]
    if first["share"] == 0:
        all_out = largest(data, "share")
        out = f"with every expert on the host, {step} waits {all_out['wait']} or more"
        return f"It fits {device} as it is; {out}"
    enough = f"With {percent(first['share'])} of the experts on the host it fits {device}"
    return f"{enough}; {step} waits {first['wait']} or more"
