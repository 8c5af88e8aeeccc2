"""Economics: the tabs under the curve. Phases, work, dollars, rivals, uneven loads, exchange."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import costs, panels
from app import economics_data as kept
from app.capacity import layout
from app.charts.figure import percent, times
from app.costs import Study, Subject
from app.economics import TABLES, Asked, load_words, no_price, ridges
from app.panels import Source
from app.words import escape, seconds, size
from moe_core.errors import InfeasibleError
from moe_core.perf import economics
from moe_core.units import quantity, significant


def phases(asked: Asked) -> None:
    """Decode and prefill apart."""
    of, batch = asked.study, asked.scenario.batch
    left, right = panels.pair()
    caveat = f"full size; filled: measured elsewhere; {of.past:,} tokens before the one that is written"
    with left:
        panels.show(kept.over_batch("decode", of, batch), "decode", asked.modelled, caveat=caveat)
    caveat = f"full size; filled: measured elsewhere; whole prompts of {of.prompt:,} tokens, all at once"
    with right:
        panels.show(kept.over_batch("prefill", of, batch), "prefill", asked.modelled, caveat=caveat)
    st.caption(escape("; ".join(f"{one.name}: {_where(one, of)}" for one in of.subjects)))


def _where(one: Subject, of: Study) -> str:
    if one.devices == 1:
        return f"one {of.hardware.name}"
    return f"{one.devices} × {of.hardware.name}, {layout(one.parallel)}"


def work(asked: Asked) -> None:
    """Bytes and FLOPs per token, which roof binds, weights against cache."""
    of, batch = asked.study, asked.scenario.batch
    st.dataframe(
        _per_token(of, batch), hide_index=True, alt="Bytes, FLOPs and the binding limit of a written token"
    )
    left, right = panels.pair()
    with left:
        figure = kept.figure("parts", of, phase="decode")
        panels.show(figure, "parts_decode", asked.modelled, caveat="full size, decode")
    with right:
        figure = kept.figure("parts", of, phase="prefill")
        panels.show(figure, "parts_prefill", asked.modelled, caveat="full size, prefill")
    panels.show(
        kept.figure("cache", of), "cache_bytes", asked.modelled, caveat="full size, the busiest device"
    )
    plain, mixed = ridges(of)
    st.caption(
        f"A dense layer is bound by multiplying from {plain:,.0f} tokens on, this one from {mixed:,.0f}: "
        "E / K times as many, because each token multiplies K of E experts while all are read."
    )


def _per_token(of: Study, batch: int) -> pd.DataFrame:
    rows = kept.frame("decode", of)
    near = rows[rows["batch"] == min(rows["batch"], key=lambda known: abs(known - batch))]
    shown = near.assign(
        bytes=[size(b / n) for b, n in zip(near["bytes"], near["batch"], strict=True)],
        flops=[quantity(f / n, "FLOP") for f, n in zip(near["flops"], near["batch"], strict=True)],
        step=near["seconds"].map(lambda s: seconds(float(s))),
        experts=[f"{significant(d)}" if d == d and d else "none" for d in near["distinct"].fillna(0)],
    )
    shown = shown[["name", "batch", "devices", "step", "bytes", "flops", "experts", "bound", "source"]]
    names = ("model", "batch", "devices", "step", "bytes a token", "FLOPs a token", "experts hit a layer")
    return shown.set_axis([*names, "binds", "source"], axis=1)


def money(asked: Asked) -> None:
    """Dollars for a million tokens over batch and over demand; tokens a second of a device."""
    of, batch, price = asked.study, asked.scenario.batch, asked.chosen.price
    if price is None:
        st.info(escape(f"There are no dollars here: {no_price(asked)}."), icon=":material/payments:")
    else:
        left, right = panels.pair()
        with left:
            figure = kept.over_batch("dollars", of, batch, price)
            panels.show(figure, "dollars", asked.modelled, caveat="full size, decode alone, fully used")
        with right:
            figure = kept.figure("demand", of, price=price)
            panels.show(
                figure, "demand", asked.modelled, caveat="full size, whole copies at their best batch"
            )
    panels.show(kept.over_batch("rate", of, batch), "rate", asked.modelled, caveat="full size, decode alone")
    for line in [] if price is None else _requests(asked, price):
        st.markdown(escape(line))


def _requests(asked: Asked, price: float) -> list[str]:
    """Dollars for a thousand requests of the scenario, prompt and answer, by model."""
    of, batch, lines = asked.study, asked.scenario.batch, []
    for one in of.subjects:
        try:
            prefill, decode = (costs.step(of, one, batch, phase).seconds for phase in ("prefill", "decode"))
        except InfeasibleError as error:
            lines.append(f"{one.name}: {error}.")
            continue
        paid = economics.request(price, one.devices, batch, prefill, decode, of.written)
        share = prefill / (prefill + decode * of.written)
        lines.append(
            f"{one.name}: ${significant(1000 * paid)} for a thousand requests, {of.prompt:,} tokens read and "
            f"{of.written:,} written at batch {batch}; {percent(share)} of it for reading."
        )
    return lines


def rivals(asked: Asked) -> None:
    """Where the mixture and each rival change places, decode and prefill."""
    of = asked.study
    figure = kept.over_batch("decode", of, asked.scenario.batch)
    panels.show(figure, "rivals", asked.modelled, caveat="full size; twins keep everything but the experts")
    for words, phase in (("Decode", "decode"), ("Prefill", "prefill")):
        for name, found in kept.frame("crossings", of, phase=phase).items():
            st.markdown(escape(f"{words}, against {name}: {_crossing_words(of, name, phase, found)}"))
    st.caption(
        "Choose any other model under Beside. Crossings are exact batches, found by bisection on the model."
    )


def _crossing_words(of: Study, name: str, phase: str, found: list[tuple[int, str]]) -> str:
    if found:
        return "; ".join(f"from batch {batch} on {who} is faster" for batch, who in found) + "."
    rows = kept.frame(phase, of)
    own, other = (rows[rows["name"] == n].set_index("batch")["seconds"] for n in (of.mixture.name, name))
    both = (own / other).dropna()
    if both.empty:
        return "no batch fits both."
    who = of.mixture.name if float(both.iloc[0]) < 1 else name
    span = f"{times(float(both.min()))} to {times(float(both.max()))} its time"
    return f"{who} is faster at every batch that fits both: the mixture takes {span}."


def imbalance(asked: Asked) -> None:
    """What the load on the experts costs: recorded on the scale model, even, and as benchmarks draw it."""
    caveat = f"full size, one layer on one {asked.study.hardware.name}"
    panels.show(kept.figure("imbalance", asked.study), "imbalance", asked.modelled, caveat=caveat)
    st.caption(
        f"The link between the two scales: the load curve {load_words(asked.run)}, stretched to the full "
        "size's experts. At few tokens an uneven load hits fewer experts and is cheaper; at many the busiest "
        "expert decides."
    )


def exchange(asked: Asked) -> None:
    """Expert parallelism: the share of a layer that exchanging tokens takes, by interconnect."""
    of = asked.study
    rows = kept.frame("exchanged", of)
    if rows.empty:
        st.info(
            "The experts of this mixture cannot be dealt out evenly over eight devices.",
            icon=":material/hub:",
        )
        return
    every = set(rows["source"])
    source = Source("measured elsewhere", TABLES) if every == {"measured elsewhere"} else asked.modelled
    link = f"{of.hardware.link_gbs:,.0f} GB/s both ways" if of.hardware.link_gbs else "no fast link"
    caveat = f"full size, one layer; inside a node {link}, between nodes 400 Gb/s a device; nothing hidden"
    panels.show(kept.figure("exchange", of), "exchange", source, caveat=caveat)
    st.caption(
        "DeepEP's dispatch and combine over the time of exchange and experts together. Overlap with the "
        "other half of a batch hides it (DeepSeek-V3). Published shares of 15 to 60 % are of training steps."
    )
