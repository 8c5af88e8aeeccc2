"""Text: the bytes a run reads. The user's own, or the held-out corpus with its domains in turn.

Legend: B sequences, S tokens of each, W window (S and what decoding reads after it).
Bytes are tokens.
"""

from __future__ import annotations

from functools import cache
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from moe_core.settings import CORPUS
from moe_core.specs import RunSpec

OWN = "yours"
# Unlike neighbours: a batch smaller than the corpus still reads texts that differ.
ORDER = ("english", "python", "russian", "mathematics", "german", "markup", "french", "c")
SLOT = 1284  # of a window: the longest sequence, the longest answer, the rest of a character before them


class Sample(NamedTuple):
    """What one run reads: windows of bytes, the domain of each, and the rule that chose them."""

    window_BW: np.ndarray
    domains_B: tuple[str, ...]
    seq: int
    rule: str

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that occur, in order of first appearance."""
        return tuple(dict.fromkeys(self.domains_B))

    def columns(self) -> dict[str, Any]:
        """The table `tokens`: sequences one after the other."""
        batch, seq = len(self.domains_B), self.seq
        return {
            "token": np.arange(batch * seq, dtype=np.int32),
            "sequence": np.repeat(np.arange(batch, dtype=np.int32), seq),
            "position": np.tile(np.arange(seq, dtype=np.int32), batch),
            "byte": self.window_BW[:, :seq].reshape(-1),
            "domain": np.repeat(np.array(self.domains_B, dtype=object), seq),
        }


def read(spec: RunSpec) -> Sample:
    """The bytes `spec` asks about: `batch` windows of `seq` tokens, and what follows each."""
    return _own(spec, spec.text) if spec.text is not None else _corpus(spec)


@cache
def load(split: str) -> dict[str, np.ndarray]:
    """Domain -> all bytes of `split` ("train" or "heldout"), documents joined by a line feed."""
    texts = {}
    for path in sorted(CORPUS.glob("*.parquet")):
        rows = pq.read_table(path, columns=["text"], filters=[("split", "=", split)])["text"].to_pylist()
        texts[path.stem] = np.frombuffer("\n".join(rows).encode(), np.uint8)
    return texts


def order(texts: dict[str, np.ndarray]) -> list[str]:
    """The domains, unlike ones next to each other; domains that `ORDER` does not know come last."""
    return [name for name in ORDER if name in texts] + sorted(set(texts) - set(ORDER))


def _own(spec: RunSpec, text: str) -> Sample:
    """The user's text as one endless stream, read on from sequence to sequence."""
    data = np.frombuffer(text.encode("utf-8", errors="replace"), np.uint8)
    wanted = spec.batch * spec.seq
    starts_B1 = np.arange(spec.batch)[:, None] * spec.seq
    window_BW = data[(starts_B1 + np.arange(spec.seq + spec.decode_steps)) % data.size]
    if data.size < wanted:
        fate = f"repeated {wanted / data.size:.3g} times to fill"
    else:
        fate = "read in full as" if data.size == wanted else "cut to"
    rule = (
        f"your text, {data.size:,} bytes of UTF-8, {fate} {spec.batch} sequences of {spec.seq}; "
        "each goes on where the one before it ended"
    )
    return Sample(window_BW, (OWN,) * spec.batch, spec.seq, rule)


def _corpus(spec: RunSpec) -> Sample:
    """Sequence i depends on seed and i alone: a larger batch reads the same texts and more."""
    texts = load("heldout")
    names = order(texts)
    domains_B = tuple(islice(cycle(names), spec.batch))
    windows = []
    for index, domain in enumerate(domains_B):
        start = _start(texts[domain], spec.seed, names.index(domain), index // len(names))
        windows.append(texts[domain][start : start + spec.seq + spec.decode_steps])
    return Sample(np.stack(windows), domains_B, spec.seq, _corpus_rule(spec, names))


def _start(text: np.ndarray, seed: int, domain: int, turn: int) -> int:
    """Where window number `turn` of a domain starts: a slot of its own, at the start of a character."""
    slots = text.size // SLOT
    slot = int(np.random.default_rng([seed, domain]).permutation(slots)[turn % slots])
    start = slot * SLOT
    while text[start] & 0xC0 == 0x80:  # inside a UTF-8 character
        start += 1
    return start


def _corpus_rule(spec: RunSpec, names: list[str]) -> str:
    rule = f"held-out corpus: {spec.batch} windows of {spec.seq} bytes, {len(names)} domains in turn"
    if spec.batch < len(names):
        rule += (
            f"; a sequence has one domain, so with batch {spec.batch} only "
            f"{', '.join(names[: spec.batch])} occur"
        )
    return rule
