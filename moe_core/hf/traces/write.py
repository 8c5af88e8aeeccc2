"""Write: choices in the shapes that others read: answers of vLLM and SGLang, lines of Megatron, Parquet.

Legend: T tokens, L layers, K choices of a token.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from moe_core.errors import ConfigError
from moe_core.hf.traces.shape import SCHEMA, Known


def write(path: Path | str, kind: str, choices: pa.Table, known: Known | None = None) -> Path:
    """Write `choices` (`SCHEMA`) as a `kind` of `KINDS`. Raises ConfigError for what the shape cannot hold.

    known: of the model. Its decoder layers are those of SGLang's array, or else up to the highest there is.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind ({kind}): must be one of {', '.join(KINDS)}")
    path = Path(path)
    if not choices.num_rows:
        raise ConfigError("trace: has no choices to be written")
    path.write_bytes(KINDS[kind](choices, known or Known()))
    return path


def _vllm(choices: pa.Table, known: Known) -> bytes:
    """An answer a line, the layers with experts alone, .npy in base64."""
    layers = _layers(choices)
    return b"\n".join(
        json.dumps({"choices": [{"routed_experts": _text(_npy(array(part, layers, -1)))}]}).encode()
        for part in _sequences(choices)
    )


def _sglang(choices: pa.Table, known: Known) -> bytes:
    """An answer a line, every decoder layer, int32 in base64; dense ones are zero, as the engine has them."""
    layers = list(range(known.decoder or max(_layers(choices)) + 1))
    answers = []
    for part in _sequences(choices):
        ids_TLK = array(part, layers, 0)
        answers.append(json.dumps({"meta_info": {"routed_experts": _text(ids_TLK.astype("<i4").tobytes())}}))
    return "\n".join(answers).encode()


def _megatron(choices: pa.Table, known: Known) -> bytes:
    """A line a layer; sequences are ranks."""
    lines = []
    for rank, part in enumerate(_sequences(choices)):
        layers = _layers(choices)
        ids_TLK = array(part, layers, -1)
        tokens, _, top_k = ids_TLK.shape
        for at, layer in enumerate(layers):
            line = {"step": 0, "stage": 0, "block": 0, "layer": layer, "rank": rank, "num_tokens": tokens}
            lines.append(json.dumps(line | {"topk": top_k, "top_indices": ids_TLK[:, at].ravel().tolist()}))
    return "\n".join(lines).encode()


def _parquet(choices: pa.Table, known: Known) -> bytes:
    """The rows as they are, a row group a layer."""
    sink = pa.BufferOutputStream()
    order = [(name, "ascending") for name in ("layer", "sequence", "position", "slot")]
    table = choices.select(SCHEMA.names).cast(SCHEMA).sort_by(order)
    with pq.ParquetWriter(sink, SCHEMA, compression="zstd", use_dictionary=["domain"]) as writer:
        for layer in _layers(table):
            writer.write_table(table.filter(pa.compute.field("layer") == layer))
    data: bytes = sink.getvalue().to_pybytes()
    return data


KINDS: dict[str, Callable[[pa.Table, Known], bytes]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "megatron": _megatron,
    "parquet": _parquet,
}


def array(choices: pa.Table, layers: list[int], fill: int) -> np.ndarray:
    """[T, L, K] of one sequence; `fill` where nothing was chosen. Positions start at 0."""
    layer, position, slot, expert = (
        choices[name].to_numpy().astype(np.int64) for name in ("layer", "position", "slot", "expert")
    )
    sizes = (position.max() + 1, len(layers), slot.max() + 1)
    if np.prod(sizes, dtype=np.float64) > 64 * len(expert) + 1e6:
        raise ConfigError(f"trace: positions up to {position.max():,} are too sparse for an array")
    column = np.full(max(*layers, int(layer.max())) + 1, -1)
    column[layers] = np.arange(len(layers))
    if (column[layer] < 0).any():
        raise ConfigError(f"trace: layer {int(layer[column[layer] < 0][0])} is beyond the decoder's layers")
    ids_TLK = np.full(sizes, fill, dtype=np.int32)
    ids_TLK[position, column[layer], slot] = expert
    return ids_TLK


def _layers(choices: pa.Table) -> list[int]:
    return sorted(pa.compute.unique(choices["layer"]).to_pylist())


def _sequences(choices: pa.Table) -> Iterator[pa.Table]:
    for sequence in sorted(pa.compute.unique(choices["sequence"]).to_pylist()):
        yield choices.filter(pa.compute.field("sequence") == sequence)


def _npy(ids_TLK: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, ids_TLK, allow_pickle=False)
    return file.getvalue()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
