"""Recorder: every choice of experts that a Hugging Face model makes, while it runs as it always does.

    with moe_core.record(model) as recording:
        model(**tokenizer(texts, return_tensors="pt", padding=True))
        model.generate(...)                      # prompt and generated tokens, at their positions
    recording.write("routing.parquet")           # part, layer, sequence, position, slot, expert, weight

Padding is not recorded. A pass without anything before it begins new sequences; one with a cache goes on with
those of the pass before. Hooks do not fire inside a captured CUDA graph: run without one.
Legend: B sequences, S places of a pass, T = B x S, K choices of a token.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from moe_core.errors import ConfigError
from moe_core.hf.sites import Choice, Site, sites

SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("layer", pa.int16()),
        ("sequence", pa.int32()),
        ("position", pa.int32()),
        ("slot", pa.int16()),
        ("expert", pa.int32()),
        ("weight", pa.float32()),
    ]
)
SITES = b"moescope.sites"  # of the schema's metadata: JSON, part and layer with their numbers of experts


class TokenPlaces(NamedTuple):
    """Which tokens of a pass are real, and where they stand: all [B x S]."""

    kept: np.ndarray
    sequence: np.ndarray
    position: np.ndarray


class Recording:
    """What was chosen so far. Not safe for several threads."""

    def __init__(self, model: nn.Module) -> None:
        self.sites = sites(model)
        self._rows: list[pa.RecordBatch] = []
        self._places: dict[str, TokenPlaces] = {}
        self._sequences: dict[str, int] = {}

    def table(self) -> pa.Table:
        """Every choice, one row a slot: by part and layer, then by token. The schema names the sites."""
        table = pa.Table.from_batches(self._rows, SCHEMA)
        order = [(name, "ascending") for name in ("part", "layer", "sequence", "position", "slot")]
        return table.sort_by(order).replace_schema_metadata({SITES: json.dumps(self.described()).encode()})

    def described(self) -> list[dict[str, Any]]:
        """name, part, layer, experts, idle, kind (the class) of every site."""
        return [
            {field: getattr(site, field) for field in ("name", "part", "layer", "experts", "idle")}
            | {"kind": type(site.module).__name__}
            for site in self.sites
        ]

    def write(self, path: str | Path) -> Path:
        """The table as one Parquet file, a row group a layer."""
        table, path = self.table(), Path(path)
        with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
            for site in self.sites:
                writer.write_table(
                    table.filter((pc.field("part") == site.part) & (pc.field("layer") == site.layer))
                )
        return path

    # -- what the hooks call -----------------------------------------------------------------------

    def begin(self, owner: str, given: dict[str, Any]) -> None:
        """A pass: which of its places hold tokens, and which sequences they belong to."""
        named = [given[name] for name in ("input_ids", "inputs_embeds") if given.get(name) is not None]
        if not named:
            raise ConfigError("model: a pass without input_ids or inputs_embeds cannot be recorded")
        shape = (named[0].shape[0], named[0].shape[1])
        mask, past = given.get("attention_mask"), _past(given.get("past_key_values"))
        if isinstance(mask, Tensor) and mask.ndim == 2:
            past = past or mask.shape[1] > shape[1]
            real = mask.to("cpu").bool().numpy()
        else:
            real = np.ones(shape, dtype=bool)
        before = self._places.get(owner)
        first = self._sequences.get(owner, 0) - (shape[0] if past and before is not None else 0)
        self._sequences[owner] = first + shape[0]
        position = self._positions(real, shape, before if past else None)
        sequence = np.repeat(np.arange(first, first + shape[0]), shape[1])
        self._places[owner] = TokenPlaces(real[:, -shape[1] :].ravel(), sequence, position)

    @staticmethod
    def _positions(real: np.ndarray, shape: tuple[int, int], before: TokenPlaces | None) -> np.ndarray:
        """Of each place among the real tokens of its sequence, from 0."""
        if real.shape[1] > shape[1] or before is None:  # the mask holds all that came before, if anything did
            return (np.cumsum(real, axis=1) - 1)[:, -shape[1] :].ravel()
        reached = np.where(before.kept, before.position, -1).reshape(shape[0], -1).max(1, keepdims=True)
        return (reached + np.cumsum(real, axis=1)).ravel()

    def take(self, site: Site, choice: Choice) -> None:
        """One site's choice in the pass that goes on."""
        place = self._places.get(site.owner)
        if place is None or len(place.kept) != len(choice.experts_TK):
            tokens = 0 if place is None else len(place.kept)
            raise ConfigError(
                f"model: {site.name} chooses for {len(choice.experts_TK)} tokens of {tokens}: "
                "which ones cannot be told"
            )
        experts_TK = choice.experts_TK.detach().to("cpu", torch.int32).numpy()[place.kept]
        weights_TK = choice.weights_TK.detach().to("cpu", torch.float32).numpy()[place.kept]
        tokens, slots = experts_TK.shape
        columns = [
            pa.repeat(site.part, tokens * slots),
            pa.array(np.full(tokens * slots, site.layer, dtype=np.int16)),
            pa.array(place.sequence[place.kept].repeat(slots).astype(np.int32)),
            pa.array(place.position[place.kept].repeat(slots).astype(np.int32)),
            pa.array(np.tile(np.arange(slots, dtype=np.int16), tokens)),
            pa.array(experts_TK.ravel()),
            pa.array(weights_TK.ravel()),
        ]
        self._rows.append(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))


def _past(cache: Any) -> bool:
    """Whether a cache holds anything. Those of linear attention alone do not say how much."""
    if cache is None:
        return False
    try:
        return bool(cache.get_seq_length() > 0)
    except ValueError:
        return bool(cache.has_previous_state())


@contextmanager
def record(model: nn.Module) -> Iterator[Recording]:
    """Record every choice of experts that `model`, of transformers, makes inside the block.

    Raises ConfigError where no choice can be read, or not for which tokens it is made.
    """
    recording = Recording(model)
    hooks = [_watch(recording, model, owner) for owner in dict.fromkeys(s.owner for s in recording.sites)]
    hooks += [_listen(recording, site) for site in recording.sites]
    try:
        yield recording
    finally:
        for hook in hooks:
            hook.remove()


def _watch(recording: Recording, model: nn.Module, owner: str) -> Any:
    module = model.get_submodule(owner)
    signature = inspect.signature(module.forward)

    def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        recording.begin(owner, dict(signature.bind_partial(*args, **kwargs).arguments))

    return module.register_forward_pre_hook(begin, with_kwargs=True)


def _listen(recording: Recording, site: Site) -> Any:
    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        recording.take(site, site.rule.read(module, (*args, *kwargs.values()), None))

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        recording.take(site, site.rule.read(module, args, output))

    if site.rule.before:
        return site.module.register_forward_pre_hook(before, with_kwargs=True)
    return site.module.register_forward_hook(after)
