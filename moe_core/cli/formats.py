"""Formats on the command line: as stored unless somebody says otherwise."""

from __future__ import annotations

from typing import Annotated, Protocol

import typer

from moe_core.formats import BITS, Format
from moe_core.perf.precision import STORED, asked, asked_cache
from moe_core.specs import Precision

Dtype = Annotated[
    str, typer.Option(help=f"stored (as published), {', '.join(BITS)}, a type of GGUF, or a mix of them.")
]
KvDtype = Annotated[str, typer.Option(help="stored, or one format for the cache.")]
Experts = Annotated[str | None, typer.Option(help="Another format for the experts alone.")]


class Carrier(Protocol):
    """Whatever knows the formats that its makers publish: an architecture, a record, a sized model."""

    @property
    def stored(self) -> Precision: ...
    @property
    def stored_kv(self) -> Format: ...


def chosen(own: Carrier, dtype: str, kv_dtype: str, experts: str | None) -> tuple[Precision, Format]:
    """Formats of weights and cache. Raises ConfigError with option, value and rule."""
    precision = asked(dtype, "dtype") or own.stored
    if experts is not None:
        form = asked_cache(experts, "experts_dtype")
        precision = precision.model_copy(update={"experts": form or own.stored.of("experts")})
    return precision, asked_cache(kv_dtype, "kv_dtype") or own.stored_kv


__all__ = ["STORED", "Dtype", "Experts", "KvDtype", "chosen"]
