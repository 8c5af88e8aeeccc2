"""Small traces, made up: what is chosen is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from moe_core.hf.traces import SCHEMA, Trace
from moe_core.runs.traced import Told

EXPERTS, TOP_K, TOKENS, LAYERS = 8, 3, 40, (1, 3)
TOLD = Told(title="a trace", model="ours", experts=EXPERTS, shared=1)


def choices(seed: int = 0, layers: tuple[int, ...] = LAYERS, tokens: int = TOKENS) -> pd.DataFrame:
    """Two sequences, the second of another domain; token ids beyond a byte."""
    generator = np.random.default_rng(seed)
    rows = []
    for layer in layers:
        drawn = generator.random((tokens, EXPERTS)).argsort(-1)[:, :TOP_K]
        for token in range(tokens):
            sequence, position = divmod(token, tokens // 2)
            for slot in range(TOP_K):
                rows.append(
                    {
                        **{"layer": layer, "sequence": sequence, "position": position, "slot": slot},
                        **{"expert": int(drawn[token, slot]), "weight": 0.5 / (slot + 1)},
                        **{"token_id": 1_000 + token, "domain": ("code", "prose")[sequence]},
                    }
                )
    return pd.DataFrame(rows)


def trace(frame: pd.DataFrame, pieces: int = 1) -> Trace:
    table = pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False)
    size = max(1, -(-table.num_rows // pieces))
    return Trace("test", ("said",), iter(table.to_batches(max_chunksize=size)))
