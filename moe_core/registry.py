"""The published models: one record a file in `data/architectures/`, every value with its source.

Rumours live in their own folder and never come back from `names()` or `records()`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache as once
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from moe_core.errors import ConfigError
from moe_core.formats import Format
from moe_core.lookup import find, plain, releases, stored_as
from moe_core.perf import memory
from moe_core.perf.cache import Cache
from moe_core.perf.params import Active, Breakdown, Method, ParameterCount, count
from moe_core.perf.precision import words
from moe_core.specs import Architecture, Precision, Spec

DATA = Path(__file__).parent.parent / "data" / "architectures"


class Published(Spec):
    """What its makers say, in their words, and where."""

    total: str
    active: str | None = None
    source: str


class Verified(Spec):
    """How the integers were obtained. `exact`: built on the meta device with transformers."""

    method: str
    exact: bool


class PublishedExperts(Spec):
    """The experts of one layer, for charts; the closed form reads `architecture` instead."""

    experts: int
    top_k: int
    shared: int = 0
    expert_width: int
    moe_layers: int


class MemoryShape(Spec):
    """What memory needs of a model that the closed form cannot express."""

    cache: Cache
    layers: int
    stream: int
    attention: int
    feed_forward: int
    logits: int


class Record(Spec):
    """One published model. `architecture` is None where our closed form cannot express it.

    stored, stored_kv: the formats its makers publish its weights in, and want its cache in.
    """

    name: str
    hf_id: str | None = None
    aliases: tuple[str, ...] = ()  # other releases of the same architecture
    kind: Literal["dense", "moe"]
    rumoured: bool = False
    released: str = Field(pattern=r"^\d{4}(-\d{2})?$")
    released_source: str
    published: Published
    sources: tuple[str, ...]
    verified: Verified
    attention: str
    stored: Precision = Precision()
    stored_kv: Format = "bf16"
    stored_source: str = ""
    total: int
    active: dict[str, int]
    breakdown: dict[str, int] = Field(default={})
    routing: PublishedExperts | None = None
    architecture: Architecture | None = None
    shape: MemoryShape | None = None
    config: dict[str, Any] = Field(default={})
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _carried(self) -> Self:
        """The architecture carries the formats, so that whoever holds it knows them."""
        if self.architecture is not None:
            own = {"stored": self.stored, "stored_kv": self.stored_kv}
            object.__setattr__(self, "architecture", self.architecture.model_copy(update=own))
        return self

    @property
    def method(self) -> Method:
        """Where the count that pages show comes from."""
        if self.architecture is not None:
            return "closed_form"
        return "meta" if self.verified.exact else "record"


def names() -> tuple[str, ...]:
    """Names of every published model, in alphabetical order. No rumours."""
    return tuple(record.name for record in records())


def records() -> tuple[Record, ...]:
    """Every published model, in alphabetical order. No rumours."""
    return tuple(record for record in _all() if not record.rumoured)


def rumours() -> tuple[Record, ...]:
    """Models whose numbers are hearsay: to be shown apart and marked."""
    return tuple(record for record in _all() if record.rumoured)


def get(name: str) -> Record:
    """The record called `name`: any case, with hyphens, underscores, dots, spaces or none.

    The Hugging Face id works too, and so does a release of the same architecture: instruct, dated, stored
    in another format. Raises ConfigError naming close matches.
    """
    table = {record.name: record for record in _all()}
    return find("model", name, table, _aliases(), releases(name))


def called(name: str) -> tuple[str, ...]:
    """What to say of a name that is a release of a record's architecture; nothing for its own."""
    record = get(name)
    if plain(name) in {plain(alias) for alias in (record.name, record.hf_id or "")}:
        return ()
    form = stored_as(name)
    seeing = "; its vision encoder is not counted" if re.search(r"[-_.]VL([-_.]|$)", name, re.I) else ""
    said = f"{name[:60]}: has the architecture of {record.name}{seeing}"
    if form is None:
        return (said,)
    return (f"{said}, and is taken as that is stored ({words(record.stored)}); {form} is a choice of format",)


def _aliases() -> Iterator[tuple[str, Record]]:
    """Hugging Face ids, with and without their owner, and other models of the same architecture."""
    for record in _all():
        for alias in (record.hf_id, *record.aliases):
            if alias:
                yield alias, record
                yield alias.rpartition("/")[2], record


def name_of(arch: Architecture) -> str | None:
    """The name of the registered model that `arch` is, to the last field; None where it is nobody's."""
    known = next((one for one in records() if one.name == arch.name), None)
    return arch.name if known is not None and known.architecture == arch else None


def parameters(record: Record) -> ParameterCount:
    """Total, active and components: closed form where it reaches, else the integers of the record."""
    if record.architecture is not None:
        return count(record.architecture)
    active = Active(**record.active)
    return ParameterCount(record.total, active, Breakdown(**record.breakdown), record.method)


def model(record: Record) -> memory.Model:
    """What the memory functions take. Raises ConfigError for a record that holds no shape (rumours)."""
    if record.architecture is not None:
        return memory.model(record.architecture)
    shape = record.shape
    if shape is None:
        raise ConfigError(f"model ({record.name}): is a rumour, with too little known to size its memory")
    inner = memory.Inner(shape.stream, shape.attention, shape.feed_forward, shape.logits)
    routing = (record.routing.top_k, record.routing.experts) if record.routing else None
    return memory.Model(record.name, parameters(record), shape.cache, inner, shape.layers, routing)


@once
def _all() -> tuple[Record, ...]:
    files = sorted(DATA.glob("**/*.json"))
    return tuple(
        sorted((Record.parse_json(file.read_bytes()) for file in files), key=lambda r: r.name.lower())
    )
