"""Browse: the tabs of the routing page that have knobs of their own."""

from __future__ import annotations

import html
import math
from functools import partial

import pandas as pd
import streamlit as st

from app import data, live, panels
from app.asked import pick, segments
from app.figure import percent
from app.figure import times as ratio
from app.live import Answer
from app.panels import Number, Source
from app.routing import charts, frames
from app.routing.frames import experts, top_k, whose
from app.words import escape
from moe_core.report.text import many
from moe_core.scenario import origin
from moe_core.scenario.spec import Scenario
from moe_core.store.queries import Run

# Background tints for coloured text: Okabe and Ito's set, see-through, so that either theme's text shows.
TINTS = (
    "230,159,0",
    "86,180,233",
    "0,158,115",
    "240,228,66",
    "0,114,178",
    "213,94,0",
    "204,121,167",
    "128,128,128",
)


UNTOLD = "This trace does not say which tokens were read, so there is no text to show."


def source(scenario: Scenario) -> Run | None:
    """The trace that is looked at; None: the test model. At first whose load the scenario's experts carry."""
    traces = {one.run_id: one.title for one in data.traces()}
    if not traces:
        return None
    which = origin.chosen(scenario.load, scenario.bank, data.traces())
    names = ["test model", *traces.values()]
    usual = names.index(traces[which]) if which in traces else 0
    found = st.selectbox(
        "Whose choices", names, index=usual, key="router", bind="query-params", width=360,
        help="The test model reads its text here. A trace is what a real model chose while it was served; "
        "`import-trace` takes one in.",
    )  # fmt: skip
    run_id = next((one for one, title in traces.items() if title == found), None)
    return data.run(run_id) if run_id else None


def about(run: Run) -> None:
    """Of a trace: how much there is, and where it is from."""
    summary = run.summary
    parts = [
        f"{many(summary['tokens'], 'tokens')} in {many(summary['sequences'], 'sequences')}",
        f"domains {', '.join(summary['domains'][:6])}",
        *([] if run.kept == 1 else [f"single decisions of {percent(run.kept)} of the tokens, counts of all"]),
        summary["source"] or "where it is from is not told",
    ]
    st.caption(escape("; ".join(parts)))


def layers(run: Run) -> list[int]:
    """Layers that have experts."""
    return [int(layer) for layer in sorted(data.frame("balance", run)["layer"])]


# -- load ------------------------------------------------------------------------------------------


def load(run: Run, here: Source) -> None:
    """Layer x expert by kind of text; a click on a cell opens the expert below."""
    names = ["all", *sorted(data.frame("load", run, by_domain=True)["domain"].unique())]
    domain = segments("Kind of text", names, "domain")
    figure = data.figure(frames.load, run, domain=domain, click=True)
    panels.show(
        figure,
        "cell",
        here,
        caveat=f"{whose(run)}; click a cell to see its expert",
        on_select=partial(_clicked, layers(run), experts(run)),
    )
    _expert(run, here)


def _clicked(layers: list[int], experts: int) -> None:
    """The clicked cell becomes the expert shown below the heatmap. What is no cell of it changes nothing."""
    try:
        cell = st.session_state["chart_cell"]["selection"]["cell"][0]
        layer, expert = int(cell["layer"]), int(cell["expert"])
    except (LookupError, TypeError, ValueError, OverflowError):  # nothing chosen; or a browser made it up
        return
    if layer in layers and 0 <= expert < experts:
        st.session_state["layer"], st.session_state["expert"] = layer, expert


def _expert(run: Run, here: Source) -> None:
    """One expert: what it likes, and the text that went there."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        layer = pick("Layer", layers(run), "layer", width=120)
        expert = pick("Expert", list(range(experts(run))), "expert", width=120)
        by = st.segmented_control("By", ["domain", "kind"], default="domain", required=True, key="routing_by")
    frame = data.frame("lift", run, by=by or "domain")
    if frame[(frame["layer"] == layer) & (frame["expert"] == expert)].empty:
        st.info(f"Expert {expert} of layer {layer} received nothing in this run: it is dead on this text.")
        return
    left, right = panels.pair()
    with left:
        panels.show(
            data.figure(frames.lift, run, layer=layer, expert=expert, by=by),
            "lift",
            here,
            caveat=whose(run),
        )
        panels.show(data.figure(frames.domains, run, layer=layer), "domains", here, caveat=whose(run))
    with right, panels.aside(f"Text that went to expert {expert} of layer {layer}"):
        spans = data.frame("snippets", run, layer=layer, expert=expert, limit=12)
        if not spans["text"].str.len().sum():
            st.info(UNTOLD)
            return
        st.html(snippets(spans))
        st.caption(
            "A sample of unbroken spans, longer ones more often; the marked tokens went to this expert."
        )


def snippets(frame: pd.DataFrame) -> str:
    """Spans in their context, one a line, as HTML. The text is not ours: escaped."""
    line = "margin-bottom:.45em;overflow-wrap:anywhere"
    code = "white-space:pre-wrap;background:none;color:inherit;padding:0"
    lines = []
    for row in frame.to_dict("records"):
        before, marked, after = (_visible(row[part]) for part in ("before", "text", "after"))
        body = f'{before}<mark style="background:rgba(213,94,0,.3);color:inherit">{marked}</mark>{after}'
        head = f"<small>{html.escape(row['domain'])}</small><br>"
        lines.append(f'<div style="{line}">{head}<code style="{code}">{body}</code></div>')
    return "".join(lines)


def _visible(text: str) -> str:
    """Escaped, long spans cut, line ends shown as a sign so that one span stays one line."""
    short = text if len(text) <= 160 else text[:80] + " … " + text[-70:]
    return html.escape(short).replace("\n", "⏎").replace("\t", "⇥")


# -- text ------------------------------------------------------------------------------------------


def text(run: Run, here: Source) -> None:
    """The text itself, coloured by the expert that served each token, above its raster."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        layer = pick("Layer", layers(run), "layer", width=120)
        rows = data.frame("sequences", run).to_dict("records")
        names = {f"{row['sequence']}: {row['domain']}": row for row in rows}
        chosen = pick("Sequence", list(names), "sequence", width=220)
    sequence, first = (int(names[chosen][field]) for field in ("sequence", "first"))
    letters = data.frame("text", run, layer=layer, first=first, count=charts.SHOWN)
    letters = letters[letters["sequence"] == sequence]
    with panels.aside(f"First choice of every token in layer {layer}, sequence {chosen}"):
        st.html(coloured(letters))
        st.caption(f"The {len(TINTS)} busiest experts here have a colour. Hover over a token for its expert.")
        if letters[["byte", "word", "token_id"]].isna().all(axis=None):
            st.info(UNTOLD)
    figure = data.figure(frames.raster, run, layer=layer, first=first)
    panels.show(figure, "raster", here, caveat=whose(run))


def coloured(letters: pd.DataFrame) -> str:
    """The passage with a tint per expert, and a legend. Consecutive tokens of one expert are one span."""
    letters = letters.sort_values("position")
    counts = letters["expert"].dropna().astype(int).value_counts()
    tints = {int(expert): tint for expert, tint in zip(counts.index, TINTS, strict=False)}
    chips = " ".join(
        f'<span style="background:rgba({tint},.45);padding:1px 6px;border-radius:4px">expert {expert}</span>'
        for expert, tint in tints.items()
    )
    runs = (letters["expert"].fillna(-1) != letters["expert"].fillna(-1).shift()).cumsum()
    body = "".join(_span(part, tints) for _, part in letters.groupby(runs))
    style = "font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.9"
    return f'<div style="margin-bottom:.6em;line-height:2">{chips}</div><div style="{style}">{body}</div>'


def _span(part: pd.DataFrame, tints: dict[int, str]) -> str:
    words = html.escape(_words(part))
    expert = part["expert"].iloc[0]
    if pd.isna(expert):
        return words
    tint = tints.get(int(expert))
    style = f"background:rgba({tint},.45)" if tint else "border-bottom:1px dotted gray"
    return f'<span style="{style}" title="expert {int(expert)}">{words}</span>'


def _words(part: pd.DataFrame) -> str:
    """Tokens that follow one another, as text; a dot for each that is not told."""
    if part["byte"].notna().all():
        return bytes(part["byte"].astype(int)).decode("utf-8", errors="replace")
    shown = charts.written(part)
    return "".join(word or "\u00b7" for word in shown)


# -- together, flow, quality -----------------------------------------------------------------------


def together(run: Run, here: Source) -> None:
    """Which experts share tokens in one layer."""
    if top_k(run) < 2:
        st.info("With top-1 routing no two experts ever work on the same token.")
        return
    layer = pick("Layer", layers(run), "layer", width=120)
    panels.show(data.figure(frames.coactivation, run, layer=layer), "together", here, caveat=whose(run))


def flow(run: Run, here: Source) -> None:
    """First choices followed through a few layers."""
    every = layers(run)
    if len(every) < 2:
        st.info("There is only one layer with experts: nothing flows from expert to expert.")
        return
    first = pick("From layer", every[:-1], "layer", width=140)
    last = every[min(every.index(first) + 3, len(every) - 1)]
    caveat = f"{whose(run)}; the {90} widest flows of each gap, first choices only"
    panels.show(data.figure(frames.sankey, run, first=first, last=last), "flow", here, caveat=caveat)


def price(run: Run, here: Source) -> None:
    """What a step reads, who is hottest, what the router wanted, and how even it is."""
    left, right = panels.pair()
    with left:
        figure = data.figure(frames.distinct, run)
        panels.show(figure, "distinct", here, caveat="line: mean of the layers, band: their range")
        panels.show(data.figure(frames.load_curve, run), "load_curve", here, caveat=whose(run))
        if not run.served:  # which says what was chosen, not what else was wanted
            caveat = f"{whose(run)}; a carved router has no softmax: its share of the scores"
            panels.show(data.figure(frames.wanted, run), "wanted", here, caveat=caveat)
    with right:
        panels.show(data.figure(frames.balance, run), "balance", here, caveat=whose(run))


def quality(scenario: Scenario, answer: Answer | None, here: Source) -> None:
    """Bits per byte against k, from its own run, asked once the main answer is there."""
    if answer is None:
        st.info("A trace says what was chosen, not how good the answers were. The test model measures it.")
        return
    if not answer.current:
        st.caption("The sweep over k starts when the main run has landed.")
        return
    sweep = live.follow(scenario.run_spec("topk_sweep"))
    live.strip(sweep)
    if sweep.run is None or answer.run is None:
        panels.nothing_yet(sweep.problem is None)
        return
    k = int(sweep.run.spec["top_k"])
    there = panels.source_of(sweep.run)
    panels.show(
        data.figure(frames.quality_against_k, sweep.run, k=k),
        "against_k",
        there,
        caveat="test model, not trained further",
    )
    panels.show(data.figure(frames.quality_by_domain, answer.run), "by_domain", here, caveat="test model")


def routing(run: Run) -> tuple[str, Source]:
    """The routing page's answer: is the work shared fairly, and who does most of it."""
    stats, load = data.frame("balance", run), data.frame("load", run)
    worst = stats.nlargest(1, "max_over_mean").to_dict("records")[0]
    busy = load.assign(rank=load.groupby("layer")["pairs"].rank(ascending=False, method="first"))
    quarter = busy[busy["rank"] <= (busy.groupby("layer")["expert"].transform("size") / 4).clip(lower=1)]
    fair = len(quarter) / len(load)
    share = float(quarter["pairs"].sum()) / float(load["pairs"].sum())
    return (
        f"The busiest quarter of the experts does {percent(share)} of the work, where an even load would "
        f"give it {percent(fair)}; layer {int(worst['layer'])} has the busiest one"
    ), panels.recorded(run)


def routing_numbers(run: Run) -> tuple[Number, ...]:
    """Entropy, variation, busiest over mean and dead experts, over all layers."""
    stats, here = data.frame("balance", run), panels.recorded(run)
    worst, dead = stats.nlargest(1, "max_over_mean").to_dict("records")[0], int(stats["dead"].sum())
    many = int(stats["experts"].sum())
    bits = float(stats["entropy_bits"].mean())
    where = "as served" if run.served else "test model"
    return (
        Number(
            f"Entropy of the load, {where}",
            f"{bits:.3g} bits",
            f"even would be {_log2(stats):.3g} bits",
            here,
        ),
        Number(
            f"Variation of the load, {where}",
            f"{stats['cv'].mean():.3g}",
            "mean of the layers; 0 is even",
            here,
        ),
        Number(
            f"Busiest over mean, {where}",
            ratio(worst["max_over_mean"]),
            f"layer {int(worst['layer'])}, expert {int(worst['hottest'])}",
            here,
        ),
        Number(f"Dead experts, {where}", f"{dead} of {many}", "received nothing in this text", here),
    )


def _log2(stats: pd.DataFrame) -> float:
    return math.log2(max(int(stats["experts"].max()), 1))
