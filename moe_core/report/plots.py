"""Plots: the charts of a report. Each is drawn twice from the same rows: as Vega-Lite, and native in a deck.

A mixture is vermilion and a dense model blue in both; what else tells series apart is in `vega` and `native`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd

from moe_core import hardware
from moe_core.report import tables, vega
from moe_core.report.figure import Figure
from moe_core.report.manifest import Origin
from moe_core.report.origins import MODELLED, PREDICTED
from moe_core.report.tables import Cases
from moe_core.units import significant


class Plot(NamedTuple):
    """A chart as rows and roles: `value` over `category`, one series for each value of `series`.

    unit    what the axis of the values says.
    axis    what the axis of the categories says.
    models  whether each scenario in it is `dense` or a `mixture`, which is its colour.
    reading how the chart is read, in a sentence or two: said to who cannot see it, and in a speaker's notes.
    """

    name: str
    kind: Literal["stacked", "bars", "lines", "sides"]
    category: str
    series: str
    value: str
    unit: str
    axis: str
    figure: Figure
    models: Mapping[str, str] = {}
    origins: tuple[Origin, ...] = ()
    reading: str = ""


def plots(cases: Cases) -> list[Plot]:
    """Every chart of these scenarios that has something to show."""
    return [made for make in PLOTS if (made := make(cases)) is not None]


# -- one chart each --------------------------------------------------------------------------------


def _memory(cases: Cases) -> Plot | None:
    data = tables.footprints(cases)
    if data.empty:
        return None
    reading = (
        "Each bar is the memory of a scenario on one device, from zero, by what fills it: experts, which "
        f"only mixtures have, vermilion; dense feed-forward layers blue. {_room(cases)}."
    )
    figure = figured(_memory_title(data, cases), reading, vega.stacked(data), data)
    return Plot("memory", "stacked", "scenario", "part", "GB", "memory (GB)", "", figure,
                tables.models(cases), (MODELLED,), reading)  # fmt: skip


def _memory_title(data: pd.DataFrame, cases: Cases) -> str:
    totals, good = data.groupby("scenario", sort=False)["GB"].sum(), tables.fits(cases)
    most, fitting = str(totals.idxmax()), sum(good.values())
    size = f"{significant(float(totals.max()))} GB"
    if len(cases) == 1:
        device = hardware.title(next(iter(cases.values())).hardware)
        return f"{most} needs {size}, which {'fits' if fitting else 'does not fit'} one {device}"
    rest = len(good) - fitting
    said = f"{fitting} of {len(good)} {'fits' if fitting == 1 else 'fit'} one device"
    if not rest or not fitting:
        said = f"{'all' if not rest else 'none'} {'fit' if not rest else 'fits'} one device"
    return f"{most} needs the most memory, {size}; {said}"


def _room(cases: Cases) -> str:
    """What a device can give, each once."""
    known = {hardware.title(case.hardware): tables.usable(case) for case in cases.values()}
    return "; ".join(f"one {device} gives {room}" for device, room in known.items())


def _decode(cases: Cases) -> Plot | None:
    data = tables.decode(cases)
    if data.empty:
        return None
    most = int(data.groupby("scenario")["batch"].max().min())
    batch = max(one for one in tables.BATCHES if one <= min(most, *(case.batch for case in cases.values())))
    ranked = data[data["batch"] == batch].sort_values("ms").to_dict("records")
    first, last = ranked[0], ranked[-1]
    title = f"At batch {batch} a decoding step of {first['scenario']} takes {_ms(first['ms'])}"
    if len(ranked) > 1:
        title += f", of {last['scenario']} {_ms(last['ms'])}"
    spans = "; ".join(
        f"{one['scenario']} {significant(float(one['low']))} to {_ms(one['high'])}" for one in ranked
    )
    reading = f"Lower is faster. The 80 % intervals at batch {batch}: {spans}. A line ends where memory does."
    ticks = [one for one in tables.BATCHES if one <= int(data["batch"].max())]
    titles = ("batch (sequences)", "decoding step (ms), with its 80 % interval")
    spec = vega.lines(data, "batch", "ms", titles, ticks if len(ticks) > 1 else [1, 2])
    return _lined("decode", "batch", "ms", ("decoding step (ms)", titles[0]),
                  figured(title, reading, spec, data), cases, PREDICTED, reading)  # fmt: skip


def _ms(value: Any) -> str:
    return f"{significant(float(value))} ms"


def _parameters(cases: Cases) -> Plot | None:
    data = tables.parameters(cases)
    wide = data.pivot(index="scenario", columns="kind", values="billions")
    share = (wide["active"] / wide["total"]).sort_values()
    least = str(share.index[0])
    title = f"{least} uses {_percent(100 * float(share.iloc[0]))} of its parameters for a token"
    reading = (
        "The pale bar is every parameter, all of which must be held; the full one those that one token uses, "
        "its embedding counted. Mixtures are vermilion, dense models blue."
    )
    figure = figured(title, reading, vega.pairs(data), data)
    return Plot("parameters", "bars", "scenario", "kind", "billions", "parameters (billions)", "", figure,
                tables.models(cases), (MODELLED,), reading)  # fmt: skip


def _growth(cases: Cases) -> Plot | None:
    data = tables.growth(cases)
    ticks = sorted(set(data["context"]))
    if len(ticks) < 2:
        return None
    ends = data.sort_values("context").groupby("scenario", sort=False)
    rise = (ends["GB"].last() - ends["GB"].first()).sort_values()
    most = str(rise.index[-1])
    context, least = int(ends["context"].last()[most]), int(ends["context"].first()[most])
    title = (
        f"At {context:,} tokens {most} holds {significant(float(rise.iloc[-1]))} GB more than at {least:,}"
    )
    reading = (
        "Memory of the fullest device of the split asked for, for the scenario's own batch. "
        "A line ends at the longest context that its model is made for."
    )
    titles = ("context (tokens)", "memory (GB)")
    spec = vega.lines(data, "context", "GB", titles, [int(one) for one in ticks])
    return _lined("growth", "context", "GB", titles[::-1], figured(title, reading, spec, data), cases,
                  MODELLED, reading)  # fmt: skip


def _distinct(cases: Cases) -> Plot | None:
    data = tables.distinct(cases)
    if data.empty:
        return None
    own = {name: max(one for one in tables.BATCHES if one <= case.batch) for name, case in cases.items()}
    here = data["batch"] == data["scenario"].map(own)
    one = data[here].sort_values("percent").to_dict("records")[0]
    title = (
        f"At batch {int(one['batch'])} a step of {one['scenario']} reads {_percent(one['percent'])} "
        "of each layer's experts"
    )
    reading = (
        "Share of one layer's experts that a decoding step must read, if every expert is as likely as the "
        "next. At batch 1 a step reads the chosen ones only."
    )
    titles = ("batch (sequences)", "experts read (%)")
    spec = vega.lines(data, "batch", "percent", titles, list(tables.BATCHES), top=104)
    return _lined("distinct", "batch", "percent", titles[::-1], figured(title, reading, spec, data), cases,
                  MODELLED, reading)  # fmt: skip


PLOTS: tuple[Callable[[Cases], Plot | None], ...] = (_memory, _decode, _parameters, _growth, _distinct)


# -- what they share -------------------------------------------------------------------------------


def figured(title: str, reading: str, spec: Mapping[str, Any], data: pd.DataFrame) -> Figure:
    """A figure with its rows inside; who cannot see it is told its finding and how it is read."""
    return Figure(title, f"{title}. {reading}", vega.whole(spec, data), data)


def _lined(
    name: str, x: str, y: str, says: Sequence[str], figure: Figure, cases: Cases, origin: Origin, reading: str
) -> Plot:
    """A chart of lines. `says`: what the axes of the values and of the categories say."""
    unit, axis = says
    return Plot(name, "lines", x, "scenario", y, unit, axis, figure, tables.models(cases), (origin,), reading)


def _percent(value: Any) -> str:
    return f"{significant(float(value))} %"
