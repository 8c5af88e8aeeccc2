"""Layout: the files of a bundle, column by column, and the manifest that vouches for them.

Schema 2; runs of schema 1 are read as well. A change that an older reader would misread gets a new number. A
new column is nullable, and a new table may be missing: runs from before it have none.

2   Tokens are no longer bytes alone: `token_id`, its string in `vocabulary`. A choice may lack a weight.
    Layers may differ in their experts (`banks`); ids from `experts` on are choices that compute nothing (zero
    experts), and a token that skips a layer has no row there. Ids are logical: `placements` says which
    physical expert is a copy of which. `counts` sums decisions up, so that a long trace is not counted each
    time it is looked at.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import AwareDatetime, Field, Strict

from moe_core.specs import Spec

SCHEMA, READABLE = 2, (1, 2)
MANIFEST = "manifest.json"
RUN_ID = re.compile(r"[0-9a-f]{16}")


def _schema(*nullable: str, **columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in nullable) for name, kind in columns.items()])


_I16, _I32, _I64, _F64, _TEXT = pa.int16(), pa.int32(), pa.int64(), pa.float64(), pa.string()
_SAID_OF_A_TOKEN = ("byte", "token_id", "generated")
TABLES: dict[str, pa.Schema] = {
    "decisions": _schema("weight", layer=_I16, token=_I32, slot=_I16, expert=_I16, weight=pa.float32()),
    "tokens": _schema(
        *_SAID_OF_A_TOKEN,
        **{"token": _I32, "sequence": _I32, "position": _I32, "byte": pa.uint8(), "domain": _TEXT},
        **{"token_id": _I32, "generated": pa.bool_()},
    ),
    "probabilities": _schema(layer=_I16, domain=_TEXT, expert=_I16, probability=_F64),
    "timings": _schema(model=_TEXT, phase=_TEXT, component=_TEXT, repeat=_I32, seconds=_F64),
    "memory": _schema(
        "measured_bytes", model=_TEXT, component=_TEXT, predicted_bytes=_I64, measured_bytes=_I64
    ),
    "layers": _schema(
        "hit", subject=_TEXT, series=_TEXT, tokens=_I32, width=_I32, hit=_F64, repeat=_I32, seconds=_F64
    ),
    # Of an experiment: what was measured of an arm along an axis; pairs of experts since the row before.
    "series": _schema(arm=_TEXT, seed=_I32, metric=_TEXT, axis=_TEXT, x=_F64, value=_F64),
    "loads": _schema(arm=_TEXT, seed=_I32, step=_I32, layer=_I16, expert=_I16, load=_I64),
    "quality": _schema(model=_TEXT, top_k=_I16, domain=_TEXT, bits_per_byte=_F64, bytes=_I64),
    # Of a layer: routed experts that compute, zero experts that a router may choose instead, shared experts.
    "banks": _schema(layer=_I16, experts=_I16, zero=_I16, shared=_I16, top_k=_I16),
    "counts": _schema("weight", layer=_I16, domain=_TEXT, expert=_I16, pairs=_I64, weight=_F64),
    "placements": _schema(layer=_I16, physical=_I16, logical=_I16),
    "requests": _schema(sequence=_I32, request=_TEXT),
    "vocabulary": _schema(token_id=_I32, text=_TEXT),
}

RunId = Annotated[str, Field(pattern=r"\A[0-9a-f]{16}\z")]


Finite = Annotated[float, Field(allow_inf_nan=False)]


class FileEntry(Spec):
    """What the manifest promises about one file."""

    rows: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]


class BundleManifest(Spec):
    """Everything about a run that is not a table. `files` is filled in by `publish`.

    complete: False while only the routing is there; the rest follows under the same run.
    """

    version: Literal[1, 2] = Field(default=2, alias="schema")
    run_id: RunId
    question_id: RunId
    spec: dict[str, Any]
    created: Annotated[AwareDatetime, Strict(False)]
    duration_s: Finite
    complete: bool = True
    stages: dict[str, Finite] = Field(default_factory=dict)
    provenance: dict[str, Any]
    architectures: dict[str, Any]
    summary: dict[str, Any]
    files: dict[str, FileEntry] = Field(default_factory=dict)
    checksum: str | None = None  # of all the rest, written by `to_json`; bundles of old have none

    def to_json(self) -> bytes:
        """JSON with its checksum. A NaN is a bug of the caller and raises ValueError."""
        text = json.dumps(self.model_dump(by_alias=True), default=_plain, allow_nan=False)
        values = json.loads(text)
        return json.dumps(values | {"checksum": checksum(values)}, indent=1).encode()


def checksum(values: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's values as canonical JSON, its own checksum left out."""
    rest = {name: value for name, value in values.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _plain(value: Any) -> object:
    """JSON for what json does not know: times, and numpy or torch scalars."""
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not belong in a manifest")
