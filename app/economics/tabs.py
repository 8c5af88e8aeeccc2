"""Economics: the tabs under the curve. Phases, work, dollars, rivals, uneven loads, exchange."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import panels
from app.economics import frames
from app.economics.view import TABLES, Asked, load_words, ridges
from app.figure import percent, times
from app.panels import Source
from app.words import escape, seconds, size
from moe_core.decide.verdict import counted
from moe_core.errors import InfeasibleError
from moe_core.perf.step_time import token_flops, token_state
from moe_core.scenario import costs, loads
from moe_core.scenario.answer import decoding, required
from moe_core.scenario.costs import Priced, Study
from moe_core.units import quantity, significant


def phases(asked: Asked) -> None:
    """Decode and prefill apart."""
    of, batch = asked.study, asked.batch
    left, right = panels.pair()
    caveat = f"full size; filled: measured elsewhere; {of.past:,} tokens before the one that is written"
    with left:
        panels.show(frames.over_batch("decode", of, batch), "decode", asked.modelled, caveat=caveat)
    caveat = f"full size; filled: measured elsewhere; whole prompts of {of.prompt:,} tokens, all at once"
    with right:
        panels.show(frames.over_batch("prefill", of, batch), "prefill", asked.modelled, caveat=caveat)
    placed = "; ".join(f"{one.name} on {_where(one, of)}" for one in of.subjects)
    st.caption(escape(f"At this batch: {placed}"))


def _where(one: Priced, of: Study) -> str:
    try:
        found = required(costs.served(of, one))
    except InfeasibleError as error:
        return f"no devices ({error})"
    many = counted(found.devices, of.hardware.title)
    return many if found.devices == 1 else f"{many}, {found.words}"


def work(asked: Asked) -> None:
    """Bytes and FLOPs per token, which roof binds, weights against cache."""
    of, batch = asked.study, asked.batch
    st.dataframe(
        _per_token(of, batch), hide_index=True, alt="Bytes, FLOPs and the binding limit of a written token"
    )
    state = token_state(of.past, *(one.architecture for one in of.subjects))
    st.caption(f"FLOPs: of the whole model, {state}. Bytes: of the busiest device.")
    left, right = panels.pair()
    with left:
        figure = frames.figure("parts", of, phase="decode")
        panels.show(figure, "parts_decode", asked.modelled, caveat="full size, decode")
    with right:
        figure = frames.figure("parts", of, phase="prefill")
        panels.show(figure, "parts_prefill", asked.modelled, caveat="full size, prefill")
    panels.show(
        frames.figure("cache", of), "cache_bytes", asked.modelled, caveat="full size, the busiest device"
    )
    plain, mixed = ridges(of)
    st.caption(
        f"A dense layer is bound by multiplying from {plain:,.0f} tokens on, this one from {mixed:,.0f}: "
        "E / K times as many, because each token multiplies K of E experts while all are read."
    )


def _per_token(of: Study, batch: int) -> pd.DataFrame:
    rows = frames.frame("decode", of)
    work = {one.name: token_flops(one.architecture, of.past) for one in of.subjects}
    near = rows[rows["batch"] == min(rows["batch"], key=lambda known: abs(known - batch))]
    shown = near.assign(
        bytes=[size(b / n) for b, n in zip(near["bytes"], near["batch"], strict=True)],
        flops=[quantity(work[name], "FLOP") for name in near["name"]],
        step=near["seconds"].map(lambda s: seconds(float(s))),
        experts=[f"{significant(d)}" if d == d and d else "none" for d in near["distinct"].fillna(0)],
    )
    shown = shown[["name", "batch", "devices", "step", "bytes", "flops", "experts", "bound", "source"]]
    names = ("model", "batch", "devices", "step", "bytes a token", "FLOPs a token", "experts hit a layer")
    return shown.set_axis([*names, "binds", "source"], axis=1)


def money(asked: Asked) -> None:
    """Dollars for a million tokens over batch and over demand; tokens a second of a device."""
    of, batch, price = asked.study, asked.batch, asked.price
    if price is None:
        st.info(f"{of.hardware.title} has no price: type one in the sidebar.", icon=":material/payments:")
    else:
        left, right = panels.pair()
        with left:
            figure = frames.over_batch("dollars", of, batch, price)
            panels.show(figure, "dollars", asked.modelled, caveat="full size, decoding alone, fully used")
        with right:
            figure = frames.figure("demand", of, price=price)
            caveat = "full size, decoding alone, whole copies at their best batch"
            panels.show(figure, "demand", asked.modelled, caveat=caveat)
    panels.show(
        frames.over_batch("rate", of, batch), "rate", asked.modelled, caveat="full size, decoding alone"
    )
    if price is not None:
        for one in of.subjects:
            st.markdown(escape(_requests(asked, one)))


def _requests(asked: Asked, who: Priced) -> str:
    """Dollars for a thousand requests of the scenario, prompt and answer."""
    of = asked.study
    try:
        one = required(costs.served(of, who))
    except InfeasibleError as error:
        return f"{error}."
    assert one.cost is not None, "the device has a price"
    reading = percent(1 - (decoding(one) or 0.0) / one.cost)
    return (
        f"{who.name}: ${significant(one.cost * of.written / 1000)} for a thousand requests, {of.prompt:,} "
        f"tokens read and {of.written:,} written at batch {asked.batch}; {reading} of it for reading."
    )


def rivals(asked: Asked) -> None:
    """Where the mixture and each rival change places, decode and prefill."""
    of = asked.study
    figure = frames.over_batch("decode", of, asked.batch)
    panels.show(figure, "rivals", asked.modelled, caveat="full size; twins keep everything but the experts")
    for words, phase in (("Decode", "decode"), ("Prefill", "prefill")):
        for name, found in frames.frame("crossings", of, phase=phase).items():
            st.markdown(escape(f"{words}, against {name}: {_crossing_words(of, name, phase, found)}"))
    st.caption(
        "Choose any other model under Beside. Crossings are exact batches, found by bisection on the model."
    )


def _crossing_words(of: Study, name: str, phase: str, found: list[tuple[int, str]]) -> str:
    if found:
        return "; ".join(f"from batch {batch} on {who} is faster" for batch, who in found) + "."
    rows = frames.frame(phase, of)
    own, other = (rows[rows["name"] == n].set_index("batch")["seconds"] for n in (of.mixture.name, name))
    both = (own / other).dropna()
    if both.empty:
        return "no batch fits both."
    who = of.mixture.name if float(both.iloc[0]) < 1 else name
    span = f"{times(float(both.min()))} to {times(float(both.max()))} its time"
    return f"{who} is faster at every batch that fits both: the mixture takes {span}."


def worth(asked: Asked) -> None:
    """What mixtures are worth beside what they take: quality and time, both as a dense width."""
    if frames.frame("worth", asked.study, tokens=asked.batch).empty:
        st.info("No mixture with a known dense equal is in this version.", icon=":material/science:")
        return
    measured = Source(
        "measured elsewhere",
        "quality: held-out bits per byte of mixtures and dense models trained alike, data/models/grid",
    )
    figure = frames.figure("worth", asked.study, tokens=asked.batch)
    caveat = (
        "quality: small test models, one seed each; time: a full-size layer of equal active width on one "
        f"{asked.study.hardware.title}, load {loads.WORDS[loads.POWER_LAW]}"
    )
    panels.show(figure, "worth", measured, asked.modelled, caveat=caveat)
    st.caption(
        "Named, as experts / top-k + shared, is what no other beats in both. Quality was measured once and "
        "stays; time moves with the batch, the device and the precision. What is as good at this size need "
        "not be at another: read the line as what a mixture must be worth."
    )
    panels.link("experiments", "Every trained mixture and its dense models")


def imbalance(asked: Asked) -> None:
    """What the load on the experts costs: as recorded, even, and as benchmarks draw it."""
    caveat = f"full size, one layer on one {asked.study.hardware.title}"
    panels.show(frames.figure("imbalance", asked.study), "imbalance", asked.modelled, caveat=caveat)
    st.caption(
        f"The link between the two scales: the load curve {load_words(asked.run)}, stretched to the full "
        "size's experts. At few tokens an uneven load hits fewer experts and is cheaper; at many the busiest "
        "expert decides."
    )


def exchange(asked: Asked) -> None:
    """Expert parallelism: the share of a layer that exchanging tokens takes, by interconnect."""
    of = asked.study
    rows = frames.frame("exchanged", of)
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
    panels.show(frames.figure("exchange", of), "exchange", source, caveat=caveat)
    st.caption(
        "DeepEP's dispatch and combine over the time of exchange and experts together. Overlap with the "
        "other half of a batch hides it (DeepSeek-V3). Published shares of 15 to 60 % are of training steps."
    )
