"""A figure and a manifest to export, and text nobody should have to write."""

from __future__ import annotations

from typing import Any

import pandas as pd
from hypothesis import strategies as st

from moe_core.registry import get
from moe_core.report import kinds
from moe_core.report.figure import Figure
from moe_core.report.manifest import Manifest, Origin, make
from moe_core.scenario.resolved import Resolved
from moe_core.specs import Precision

ATTACKS = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1:A9)",
    "\t=1",
    "<script>fetch('http://example.com')</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "</svg></metadata>]]>",
    "'; DROP TABLE reviews; --",
    "../../../etc/passwd",
    "C:\\con\\nul",
    "שלום עולם 123",
    "مرحبا \u202eevil.exe",
    "a\x00b\x1b[31mc\x7f",
    "\ud800 half a character \udfff",
    "\ufffe\uffff",
    "日本語 e\u0301 🙂",
    "x" * 5_000,
    "",
    " \n\t ",
    "{{7*7}} ${7*7} %s %(x)s {0}",
    "datum.value",
)
anything = st.one_of(
    st.sampled_from(ATTACKS),
    st.text(st.characters(), max_size=60),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Lo", "Sm"]), max_size=30),
)


def figure(label: str = "dense", title: str = "Dense needs 1 GB") -> Figure:
    """Two bars, one of them named `label`."""
    names = pd.Series([label, "mixture"], dtype=object)  # Arrow strings cannot hold half a character
    rows = pd.DataFrame({"model": names, "bytes": [1e9 / 3, 2e9], "count": [1, 2]})
    spec: dict[str, Any] = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"name": "rows"},
        "mark": "bar",
        "encoding": {
            "y": {"field": "model", "type": "nominal", "title": None},
            "x": {"field": "bytes", "type": "quantitative", "title": "memory (B)"},
        },
        "datasets": {"rows": rows},
    }
    return Figure(title, "Two bars: the mixture is six times as long.", spec, rows)


def case(model: str = "Mixtral-8x7B", **changes: Any) -> Resolved:
    """A published model on an 80 GB device."""
    record = get(model)
    values: dict[str, Any] = {
        "label": f"{record.name} as published",
        "architecture": record.architecture,
        "record": None if record.architecture else record.name,
        "hardware": "H100",
        "capacity": 80_000_000_000,
        "batch": 8,
        "context": 4096,
        "precision": Precision(default="bf16"),
    }
    return Resolved(**(values | changes))


def manifest(title: str = "Dense needs 1 GB", detail: str = "closed form", **cases: Resolved) -> Manifest:
    """A manifest of the numbers of `cases`; one scenario if none is given."""
    found = cases or {"A": case()}
    return make(
        "figure",
        title,
        sources=[Origin(kind="modelled", detail=detail)],
        scenarios={name: one.model_dump(mode="json") for name, one in found.items()},
        numbers=[number for name, one in found.items() for number in kinds.of_scenario(name, one)],
    )
