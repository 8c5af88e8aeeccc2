"""Shape: the one form that every trace is brought to, and what an array of expert ids leaves open.

Legend: T tokens, L layers of the array, K choices of a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from moe_core.errors import ConfigError

SCHEMA = pa.schema(
    [
        pa.field("layer", pa.int16(), nullable=False),
        pa.field("sequence", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("slot", pa.int16(), nullable=False),
        pa.field("expert", pa.int32(), nullable=False),
        pa.field("weight", pa.float32()),
        pa.field("token_id", pa.int32()),
        pa.field("domain", pa.string()),
    ]
)
Zero = Literal["expert", "missing"]


class Known(NamedTuple):
    """What is known of the model that was traced; None is not known.

    layers   decoder layers that have experts.   decoder  how many layers there are, dense ones too.
    zero     what an expert 0 is where a token takes one expert: an expert, or that nothing was recorded. Of
             several, zero for all of them can be no choice.
    domain   of all that is read.
    """

    layers: tuple[int, ...] | None = None
    decoder: int | None = None
    experts: int | None = None
    top_k: int | None = None
    zero: Zero | None = None
    domain: str | None = None


class Trace(NamedTuple):
    """A trace: its format, what was taken from the file in sentences, and its choices as `SCHEMA`."""

    kind: str
    notes: tuple[str, ...]
    batches: Iterator[pa.RecordBatch]

    def table(self) -> pa.Table:
        """All of it at once."""
        return pa.Table.from_batches(self.batches, SCHEMA)


class Columns(NamedTuple):
    """Which column of an array is which layer, and a sentence about it."""

    layers: tuple[int, ...]
    kept: tuple[int, ...]
    note: str


def columns(ids_TLK: np.ndarray, known: Known, what: str) -> Columns:
    """Which layers an array is of. Raises ConfigError where that cannot be told."""
    _, width, top_k = ids_TLK.shape
    if known.top_k is not None and top_k != known.top_k:
        raise ConfigError(f"{what}: has {top_k} experts a token, the model takes {known.top_k}")
    if known.layers is not None and width == len(known.layers):
        return Columns(known.layers, tuple(range(width)), f"{width} layers, all with experts")
    if known.decoder is not None and width != known.decoder:
        several = "" if known.layers is None else f", {len(known.layers)} of them with experts"
        raise ConfigError(f"{what}: has {width} layers, the model {known.decoder}{several}")
    if known.layers is not None:
        if known.decoder is None and max(known.layers) >= width:
            raise ConfigError(f"{what}: has {width} layers, and the model experts in {len(known.layers)}")
        said = f"{width} layers, {len(known.layers)} of them with experts"
        return Columns(known.layers, known.layers, said)
    return _empty(ids_TLK, known, what)


def _empty(ids_TLK: np.ndarray, known: Known, what: str) -> Columns:
    """Columns in which nothing is chosen are of dense layers: all below zero, or zero for every slot."""
    width, top_k = ids_TLK.shape[1:]
    zeros = [layer for layer in range(width) if (ids_TLK[:, layer] == 0).all()]
    if zeros and top_k == 1 and known.zero is None:
        raise ConfigError(
            f"{what}: layer {zeros[0]} is dense or has expert 0 for every token: say which have experts"
        )
    dense = [layer for layer in zeros if top_k > 1 or known.zero == "missing"]
    dense += [layer for layer in range(width) if (ids_TLK[:, layer] < 0).all()]
    kept = tuple(layer for layer in range(width) if layer not in dense)
    if not kept:
        raise ConfigError(f"{what}: no layer chooses an expert")
    note = f"{width} layers" + (f"; nothing is chosen in {_list(sorted(dense))}: dense" if dense else "")
    return Columns(kept, kept, note)


def _list(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers[:8])) + (", ..." if len(layers) > 8 else "")


def of_array(
    ids_TLK: np.ndarray,
    here: Columns,
    known: Known,
    what: str,
    *,
    sequence: int = 0,
    positions_T: np.ndarray | None = None,
    token_ids_T: np.ndarray | None = None,
) -> Iterator[pa.RecordBatch]:
    """The choices of one sequence, a batch a layer; below zero is none. Raises ConfigError."""
    positions_T = np.arange(len(ids_TLK)) if positions_T is None else positions_T
    skipped_TL = _unrecorded(ids_TLK[:, list(here.kept)], known, what)
    for number, (layer, column) in enumerate(zip(here.layers, here.kept, strict=True)):
        ids_TK = ids_TLK[:, column].astype(np.int64)
        chosen_TK = (ids_TK >= 0) & ~skipped_TL[:, number, None]
        _check(ids_TK, chosen_TK, known, f"{what}, layer {layer}")
        token_N, slot_N = chosen_TK.nonzero()
        yield batch(
            layer=np.full(len(token_N), layer),
            sequence=np.full(len(token_N), sequence),
            position=positions_T[token_N],
            slot=slot_N,
            expert=ids_TK[chosen_TK],
            token_id=None if token_ids_T is None else token_ids_T[token_N],
            domain=known.domain,
        )


def _unrecorded(ids_TLK: np.ndarray, known: Known, what: str) -> np.ndarray:
    """[T, L] where nothing was recorded: zero in every slot, which of several slots no choice can be.

    Of one slot, zero in every layer is either. Raises ConfigError where that is not known.
    """
    zeros_TL = (ids_TLK == 0).all(2)
    if ids_TLK.shape[2] > 1:
        return zeros_TL
    whole_T1 = zeros_TL.all(1, keepdims=True)
    if known.zero is None and whole_T1.any():
        raise ConfigError(
            f"{what}: token {int(whole_T1.argmax())} has expert 0 in every layer, or none was recorded: "
            "say which zero means"
        )
    return whole_T1 & (known.zero == "missing") & zeros_TL


def _check(ids_TK: np.ndarray, chosen_TK: np.ndarray, known: Known, what: str) -> None:
    """Ids are of the model, and no token has an expert twice."""
    most = int(ids_TK.max(initial=-1))
    if known.experts is not None and most >= known.experts:
        raise ConfigError(f"{what}: expert {most}, the model has {known.experts}; are they physical ids?")
    ordered_TK = np.sort(np.where(chosen_TK, ids_TK, -1 - np.arange(ids_TK.shape[1])), axis=1)
    twice_T = (ordered_TK[:, 1:] == ordered_TK[:, :-1]).any(1)
    if twice_T.any():
        raise ConfigError(f"{what}: token {int(twice_T.argmax())} has an expert twice")


def batch(
    *,
    layer: np.ndarray,
    sequence: np.ndarray,
    position: np.ndarray,
    slot: np.ndarray,
    expert: np.ndarray,
    weight: np.ndarray | None = None,
    token_id: np.ndarray | None = None,
    domain: str | None = None,
) -> pa.RecordBatch:
    """Rows of `SCHEMA`."""
    rows = len(layer)
    given: dict[str, np.ndarray | None] = {"layer": layer, "sequence": sequence, "position": position}
    given |= {"slot": slot, "expert": expert, "weight": weight, "token_id": token_id}
    arrays = [
        pa.nulls(rows, field.type)
        if given[field.name] is None
        else pa.array(given[field.name], field.type, safe=False)
        for field in SCHEMA
        if field.name != "domain"
    ]
    arrays.append(pa.nulls(rows, pa.string()) if domain is None else pa.repeat(domain, rows))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
