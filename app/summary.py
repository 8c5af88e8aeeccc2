"""Summary: what a run says in sentences and numbers. The words of the overview are computed here."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import streamlit as st

from app import data, panels
from app.charts.figure import percent
from app.charts.figure import times as ratio
from app.machines import Device
from app.panels import Number, Source
from app.scenario import Scenario
from app.words import escape, size
from moe_core.decide.scale import PAYS, RULE, SAVES, Memory, Span, Times, Verdict, verdict
from moe_core.store.queries import Run

WINNERS = {"dense": "Dense", "mixture": "Mixture", "close": "Too close to call"}


class Overview(NamedTuple):
    """The answer, its numbers and the verdict behind it."""

    sentence: str
    numbers: tuple[Number, ...]
    verdict: Verdict


def overview(scenario: Scenario, run: Run) -> Overview:
    """Everything the overview says about one run under one scenario."""
    timings, full = data.frame("timings", run), data.full_size(scenario)
    bits = run.summary["bits_per_byte"]
    found = verdict(
        _times(timings, "dense"),
        _times(timings, "moe"),
        (bits["dense"], bits["moe"]),
        Memory(full.total, data.room(scenario).usable),
        scenario.write,
    )
    return Overview(_sentence(found, scenario, run), _numbers(found, scenario, run), found)


def _times(timings: pd.DataFrame, model: str) -> Times:
    total = timings[(timings["component"] == "total") & (timings["model"] == model)].set_index("phase")
    spans = {
        phase: Span(*(float(total.loc[phase, name]) for name in ("median_s", "p10_s", "p90_s")))  # type: ignore[arg-type]
        for phase in ("prefill", "decode")
    }
    return Times(spans["prefill"], spans["decode"])


def _sentence(found: Verdict, scenario: Scenario, run: Run) -> str:
    work = f"reading {run.spec['batch']} × {run.spec['seq']} bytes and writing {scenario.write} each"
    price = f"{percent(abs(found.quality - 1))} {'more' if found.quality >= 1 else 'fewer'} bits per byte"
    time = f"{ratio(found.time.median)} the dense time"
    if found.decides == "memory" and found.choice == "dense":
        full, name = data.full_size(scenario), data.device(scenario).name
        usable = size(data.room(scenario).usable)
        return f"Dense here: {full.label} needs {size(full.total)} and {name} can give {usable}"
    if found.choice == "close":
        return f"Too close to call: {work} takes the mixture {time}, within the spread of the repeats"
    if found.choice == "mixture":
        return f"Mixture here: {work} takes it {time}, at {price}"
    if found.decides == "quality":
        return f"Dense here: the mixture takes {time}, but pays {price}"
    return f"Dense here: {work} takes the mixture {time}, and it pays {price}"


def _numbers(found: Verdict, scenario: Scenario, run: Run) -> tuple[Number, ...]:
    here, full, device = panels.source_of(run), data.full_size(scenario), data.device(scenario)
    bits, load = run.summary["bits_per_byte"], data.frame("balance", run)
    worst = load.nlargest(1, "max_over_mean").to_dict("records")[0]
    sign = "+" if found.quality >= 1 else "−"
    return (
        Number(
            "Time for this work, scale model",
            f"{ratio(found.time.median)} dense",
            f"{ratio(found.time.low)} to {ratio(found.time.high)} over the repeats",
            here,
        ),
        Number(
            "Bits per byte, scale model",
            f"{sign}{percent(abs(found.quality - 1))}",
            f"{bits['moe']:.3f} against {bits['dense']:.3f} dense",
            here,
        ),
        Number(
            "Busiest expert, scale model",
            f"{ratio(worst['max_over_mean'])} fair",
            f"layer {int(worst['layer'])}, expert {int(worst['hottest'])}",
            here,
        ),
        Number(
            "Memory, full size",
            size(full.total),
            f"{full.label}; {device.name} can give {size(data.room(scenario).usable)}",
            Source("modelled", full.source),
        ),
    )


def verdict_card(facts: Overview, scenario: Scenario, run: Run) -> None:
    """The verdict, what speaks for and against, what decides, what would flip it, and the rule."""
    found = facts.verdict
    with panels.aside("Verdict"):
        colour = {"dense": "blue", "mixture": "orange", "close": "gray"}[found.choice]
        st.header(f":{colour}[{WINNERS[found.choice]}]", anchor=False)
        lines = {
            "memory": f"full size fills {percent(found.memory)} of a {data.device(scenario).name}",
            "time": f"{ratio(found.time.median)} the dense time; the limit is {ratio(1 - SAVES)}",
            "quality": f"{ratio(found.quality)} the dense bits per byte; the limit is {ratio(1 + PAYS)}",
        }
        for name, line in lines.items():
            icon, word = _MARKS[found.passed[name]]  # type: ignore[index]
            st.markdown(f"{icon} **{name}**, {word}: {escape(line)}")
        side = "inside" if found.margin >= 0 else "past"
        st.markdown(f"**Decided by {found.decides}**, {escape(percent(abs(found.margin)))} {side} its limit.")
        for line in _flips(found, scenario, run):
            st.markdown(escape(line))
        st.caption(escape(RULE))


def _flips(found: Verdict, scenario: Scenario, run: Run) -> list[str]:
    """What would have to change for each factor that speaks against the mixture."""
    lines, device, room = [], data.device(scenario), data.room(scenario)
    if found.passed["memory"] is False:
        many = f"{room.devices} × {device.name}" if room.devices else "no number of these devices"
        lines.append(f"Split over {many} it would fit.")
    if found.passed["quality"] is False:
        bits = run.summary["bits_per_byte"]
        limit = bits["dense"] * (1 + PAYS)
        lines.append(f"Quality passes below {limit:.3f} bits per byte; it is {bits['moe']:.3f}.")
    if found.flip_write is not None and found.flip_write < 100_000:
        lines.append(f"Time crosses its limit at about {found.flip_write:,.0f} tokens written per sequence.")
    elif found.passed["time"] is False:
        lines.append("No number of tokens written brings the time below its limit.")
    return lines


_MARKS = {
    True: (":material/check:", "for the mixture"),
    False: (":material/close:", "against it"),
    None: (":material/question_mark:", "cannot say"),
}


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
    ), panels.source_of(run)


def routing_numbers(run: Run) -> tuple[Number, ...]:
    """Entropy, variation, busiest over mean and dead experts, over all layers."""
    stats, here = data.frame("balance", run), panels.source_of(run)
    worst, dead = stats.nlargest(1, "max_over_mean").to_dict("records")[0], int(stats["dead"].sum())
    many = int(stats["experts"].sum())
    bits = float(stats["entropy_bits"].mean())
    return (
        Number(
            "Entropy of the load, scale model",
            f"{bits:.3g} bits",
            f"even would be {_log2(stats):.3g} bits",
            here,
        ),
        Number(
            "Variation of the load, scale model",
            f"{stats['cv'].mean():.3g}",
            "mean of the layers; 0 is even",
            here,
        ),
        Number(
            "Busiest over mean, scale model",
            ratio(worst["max_over_mean"]),
            f"layer {int(worst['layer'])}, expert {int(worst['hottest'])}",
            here,
        ),
        Number("Dead experts, scale model", f"{dead} of {many}", "received nothing in this text", here),
    )


def _log2(stats: pd.DataFrame) -> float:
    import math

    return math.log2(max(int(stats["experts"].max()), 1))


def device_source(device: Device) -> Source:
    """Where a device's capacity comes from."""
    return Source("measured here" if device.kind == "measured here" else "published", device.source)
