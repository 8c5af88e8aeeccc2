"""Words: how numbers, dates and other people's text are written on a page. No Streamlit here."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from moe_core.pressure import Busy
from moe_core.store.queries import Run
from moe_core.units import quantity

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|$~:^&\"'=@/])")

_ADDRESS = re.compile(r"[a-z]+:(?=//)|www(?=\.)|(?<=\S)(?=@)", re.I)


def escape(text: str) -> str:
    """Text that is not ours, safe inside Markdown: no links, images, directives or formulas.

    Escaping does not keep an address from becoming a link: a character without width inside it does.
    """
    plain = _ADDRESS.sub("\\g<0>\N{WORD JOINER}", re.sub(r"\s+", " ", text))
    return _MARKDOWN.sub(r"\\\1", plain)


def ago(when: float) -> str:
    """`12 s ago`, from a Unix time."""
    seconds = max(time.time() - when, 0.0)
    for limit, size, unit in ((90, 1, "s"), (5_400, 60, "min"), (129_600, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit} ago"
    return f"on {datetime.fromtimestamp(when, UTC):%Y-%m-%d}"


def recorded_on(run: Run) -> str:
    """`recorded on NVIDIA H100, 2026-11-22`."""
    return f"recorded on {escape(str(run.provenance['device']))}, {run.created:%Y-%m-%d}"


def busy_words(busy: Busy) -> str:
    """`other programs used 1.4 of 2 cores`."""
    return f"other programs used {busy.others:.2g} of {busy.cores} cores"


def measured_here(run: Run) -> str:
    """The tooltip of a measured number: device, versions, settings, date."""
    facts = run.provenance
    if run.served:
        source = run.summary["source"] or "the file says nothing of where it is from"
        return f"{run.summary['format']} trace of {run.created:%Y-%m-%d}, run {run.run_id}: {source}"
    beside = f", {busy_words(run.busy)}" if run.busy else ""
    return (
        f"{facts['device']}, {facts['dtype']}, kernel {facts['kernel']}, {facts['threads']} threads, "
        f"torch {facts['torch']}, MoEScope {facts['moescope']} ({facts.get('commit') or 'no commit'}), "
        f"seed {facts['seed']}, {run.created:%Y-%m-%d %H:%M} UTC, run {run.run_id}{beside}"
    )


def seconds(value: float) -> str:
    """A duration with three significant figures: `12.3 ms`."""
    return quantity(value, "s")


def size(value: float) -> str:
    """Bytes with three significant figures, powers of 1,000: `93.4 GB`."""
    return quantity(value, "B")
