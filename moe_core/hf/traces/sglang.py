"""SGLang's recorder: a `.pt` file of forward passes, a record a token or a pass. Needs torch.

Ids are physical where experts are copied or moved (EPLB): the map that the file ends with is applied. A file
of statistics holds counts and no choices, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from moe_core import inputs
from moe_core.errors import ConfigError
from moe_core.hf.traces.shape import Columns, Known, Trace, columns, of_array


def read(path: Path, known: Known, what: str) -> Trace:
    """Records of one rank; a pass goes on where the one before it ended unless it says its positions."""
    import torch
    from torch.serialization import pickle  # type: ignore[attr-defined]  # its errors, nothing else

    try:
        with inputs.opened(path) as file:
            found = torch.load(file, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ConfigError(f"{what}: cannot be read ({str(error).splitlines()[0][:120]})") from error
    if not isinstance(found, dict) or not isinstance(found.get("records"), list):
        counts = isinstance(found, dict) and "logical_count" in found
        why = "holds counts of experts and no choices" if counts else "is no file of SGLang's recorder"
        raise ConfigError(f"{what}: {why}; record with per_token or per_pass")
    records = [_record(one, what) for one in found["records"]]
    if not records:
        raise ConfigError(f"{what}: has no records")
    to_logical = _map(found, what)
    first = _choices(records[0], to_logical, what)
    here = columns(first, known, what)
    mapped = "" if to_logical is None else ", physical ids mapped to logical ones"
    note = f"forward passes: {len(records):,}; {here.note}, {first.shape[2]} experts a token{mapped}"
    return Trace("SGLang", (note,), _batches(records, to_logical, here, known, what))


def _record(one: Any, what: str) -> Mapping[str, Any]:
    ids = one.get("topk_ids_of_layer") if isinstance(one, dict) else None
    if getattr(ids, "ndim", 0) != 3:
        raise ConfigError(f"{what}: a record lacks topk_ids_of_layer [layers, tokens, experts a token]")
    return one


def _map(found: Mapping[str, Any], what: str) -> np.ndarray | None:
    """[layers, physical] -> logical; None where it is the identity or not there."""
    given = found.get("last_physical_to_logical_map")
    if given is None:
        return None
    mapped = np.asarray(given)
    if mapped.ndim != 2:
        raise ConfigError(f"{what}: last_physical_to_logical_map must be [layers, physical experts]")
    same = mapped.shape[1] == mapped.max() + 1 and (mapped == np.arange(mapped.shape[1])).all()
    return None if same else mapped


def _choices(record: Mapping[str, Any], to_logical: np.ndarray | None, what: str) -> np.ndarray:
    """[tokens, layers, k] of one pass, unused slots (below zero everywhere) left out."""
    ids_LTK = np.asarray(record["topk_ids_of_layer"]).astype(np.int64)
    if to_logical is not None:
        if len(to_logical) != len(ids_LTK) or ids_LTK.max(initial=-1) >= to_logical.shape[1]:
            raise ConfigError(f"{what}: the map of physical experts does not fit the records")
        layer_L = np.arange(len(ids_LTK))[:, None, None]
        ids_LTK = np.where(ids_LTK >= 0, to_logical[layer_L, np.maximum(ids_LTK, 0)], -1)
    used_K = (ids_LTK >= 0).any((0, 1))
    return ids_LTK[:, :, used_K].transpose(1, 0, 2)


def _batches(
    records: list[Mapping[str, Any]], to_logical: np.ndarray | None, here: Columns, known: Known, what: str
) -> Iterator[pa.RecordBatch]:
    reached = 0
    for number, record in enumerate(records):
        ids_TLK = _choices(record, to_logical, what)
        given = record.get("positions")
        positions = np.arange(reached, reached + len(ids_TLK)) if given is None else np.asarray(given)
        sequences = _sequences(record, len(ids_TLK))
        tokens = record.get("input_ids")
        for sequence in np.unique(sequences):
            mine = sequences == sequence
            yield from of_array(
                ids_TLK[mine],
                here,
                known,
                f"{what}, pass {number}",
                sequence=int(sequence),
                positions_T=positions[mine],
                token_ids_T=None if tokens is None else np.asarray(tokens)[mine],
            )
        reached += len(ids_TLK)


def _sequences(record: Mapping[str, Any], tokens: int) -> np.ndarray:
    """Which request of the pass each token belongs to; requests are not named across passes."""
    lengths = record.get("extend_seq_lens")
    if lengths is None or int(np.sum(np.asarray(lengths))) != tokens:
        return np.zeros(tokens, dtype=np.int64)
    return np.repeat(np.arange(len(lengths)), np.asarray(lengths))
