"""Quality: bits per byte, the cross-entropy of the next byte in bits, by domain and over all.

Legend: B sequences, S tokens of each, W window (> S), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from moe_core.nn.model import Decoder
from moe_core.nn.observe import NULL, Observer
from moe_core.runs.text import Sample

CHUNK_TOKENS = 16_384  # at most this many at once: logits in fp32 then take 17 MB


def chunks(batch: int, seq: int) -> Iterator[slice]:
    """Whole sequences, at most `CHUNK_TOKENS` tokens at once."""
    together = max(1, CHUNK_TOKENS // seq)
    for start in range(0, batch, together):
        yield slice(start, min(start + together, batch))


@torch.inference_mode()
def sequence_bits(
    model: Decoder,
    sample: Sample,
    observer: Observer = NULL,
    after: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """[B] float64: bits that `model` needs for the S bytes after the first of each sequence.

    after: called when a chunk is done. Raises whatever it raises.
    """
    device = model.embedding.weight.device
    window_BW = torch.from_numpy(sample.window_BW)
    parts = []
    for part in chunks(len(window_BW), sample.seq):
        window = window_BW[part].to(device, torch.int64)
        logits_BSV = model(window[:, : sample.seq], observer=observer)
        nats_BS = functional.cross_entropy(
            logits_BSV.float().transpose(1, 2), window[:, 1 : sample.seq + 1], reduction="none"
        )
        parts.append(nats_BS.cpu().double().sum(1).numpy() / math.log(2))
        after()
    return np.concatenate(parts)


def by_domain(bits_B: np.ndarray, sample: Sample) -> dict[str, tuple[float, int]]:
    """Domain, "all" first -> (bits per byte, bytes)."""
    groups = {"all": np.ones(len(bits_B), dtype=bool)}
    groups |= {name: np.array(sample.domains_B) == name for name in sample.domains}
    return {
        name: (float(bits_B[mask].sum() / (mask.sum() * sample.seq)), int(mask.sum()) * sample.seq)
        for name, mask in groups.items()
    }


def columns(results: Mapping[tuple[str, int], np.ndarray], sample: Sample) -> dict[str, list[Any]]:
    """The table `quality` from (model, top_k) -> bits of each sequence."""
    rows = [
        (model, top_k, domain, bits, count)
        for (model, top_k), bits_B in results.items()
        for domain, (bits, count) in by_domain(bits_B, sample).items()
    ]
    names = ("model", "top_k", "domain", "bits_per_byte", "bytes")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
