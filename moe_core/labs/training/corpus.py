"""Corpus: the bytes that experiments train on and are judged by, in an order that a seed alone decides.

Legend: B sequences, S tokens of each. Bytes are tokens. Held-out text is never trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moe_core.nn.model import Decoder
from moe_core.nn.observe import NULL, Observer
from moe_core.runs import text

SEPARATE = 32  # sequences of one evaluation pass
NATS = math.log(2)  # nats of a bit


class TextWindow(NamedTuple):
    """What one step reads: [B, S + 1] bytes, and the number of the domain of each sequence."""

    ids_BS: Tensor
    domains_B: Tensor


@cache
def domains() -> tuple[str, ...]:
    """Names of the domains, in the order of their numbers."""
    return tuple(text.order(text.load("train")))


@cache
def _training(only: str | None = None) -> tuple[Tensor, Tensor]:
    """All training bytes end to end, and where each domain begins."""
    texts = text.load("train")
    names = domains() if only is None else (only,)
    flat = torch.from_numpy(np.concatenate([texts[name] for name in names]))
    starts = np.cumsum([0] + [texts[name].size for name in names[:-1]])
    return flat, torch.from_numpy(starts)


def windows(batch: int, seq: int, seed: int, only: str | None = None) -> Iterator[TextWindow]:
    """Endless windows, every byte of the training text (of domain `only`) equally likely."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield _draw(batch, seq, generator, only)


def mixed(tokens: int, short: int, long: int, every: int, seed: int) -> Iterator[TextWindow]:
    """Endless windows of `tokens` tokens: of length `short`, and every so many steps of length `long`."""
    generator, step = torch.Generator().manual_seed(seed), 0
    while True:
        step += 1
        seq = long if step % every == 0 else short
        yield _draw(tokens // seq, seq, generator, None)


def _draw(batch: int, seq: int, generator: torch.Generator, only: str | None) -> TextWindow:
    flat, starts_Z = _training(only)
    start_B = torch.randint(0, flat.numel() - seq - 1, (batch,), generator=generator)
    ids_BS = flat[start_B[:, None] + torch.arange(seq + 1)].long()
    domain_B = torch.searchsorted(starts_Z, start_B, right=True) - 1
    if only is not None:
        domain_B = torch.full_like(domain_B, domains().index(only))
    return TextWindow(ids_BS, domain_B)


def by_domain(window: TextWindow) -> TextWindow:
    """The same sequences, those of one domain side by side."""
    order_B = window.domains_B.argsort(stable=True)
    return TextWindow(window.ids_BS[order_B], window.domains_B[order_B])


def shuffled(window: TextWindow) -> TextWindow:
    """The same sequences in an order that is always the same and tells nothing of their domains."""
    order_B = torch.randperm(len(window.domains_B), generator=torch.Generator().manual_seed(0))
    return TextWindow(window.ids_BS[order_B], window.domains_B[order_B])


@cache
def heldout(each: int, seq: int, only: str | None = None) -> TextWindow:
    """The first `each` bytes of every domain's held-out text (of `only` one), as cold windows of `seq`."""
    texts = text.load("heldout")
    names = domains() if only is None else (only,)
    found, numbers = [], []
    for name in names:
        usable = min(each, texts[name].size - 1) // seq
        ids = torch.from_numpy(texts[name][: usable * seq + 1].astype(np.int64))
        found.append(ids[torch.arange(usable)[:, None] * seq + torch.arange(seq + 1)])
        numbers.append(torch.full((usable,), domains().index(name)))
    return TextWindow(torch.cat(found), torch.cat(numbers))


@torch.no_grad()
def bits_per_byte(model: Decoder, window: TextWindow, observer: Observer = NULL) -> float:
    """Mean bits per byte over the window, every sequence starting cold."""
    return float(bits_of_each(model, window, observer).mean())


@torch.no_grad()
def bits_of_each(model: Decoder, window: TextWindow, observer: Observer = NULL) -> Tensor:
    """Bits per byte of every sequence, [B] in float64."""
    training = model.training
    model.eval()
    found = []
    for ids_BS in window.ids_BS.split(SEPARATE):
        logits_BSV = model(ids_BS[:, :-1], observer=observer).float()
        nats_BS = F.cross_entropy(logits_BSV.transpose(1, 2), ids_BS[:, 1:], reduction="none")
        found.append(nats_BS.double().mean(1) / NATS)
    model.train(training)
    return torch.cat(found)
