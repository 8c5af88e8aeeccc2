"""Bits per byte: the cross-entropy of the next byte, summed by sequence and meaned by domain."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from moe_core.nn.model import Decoder, initialise
from moe_core.runs import quality
from moe_core.runs.text import Sample
from moe_core.specs import GQA, Architecture

ARCH = Architecture(
    hidden=16, layers=1, vocab=256, attention=GQA(heads=2, kv_heads=1, head_dim=8), ffn_width=32, tied=True
)


@pytest.fixture(scope="module")
def sample() -> Sample:
    window_BW = np.random.default_rng(0).integers(0, 256, (3, 20), dtype=np.uint8)
    return Sample(window_BW, ("c", "english", "c"), 16, "random bytes")


@pytest.fixture(scope="module")
def model() -> Decoder:
    built = Decoder(ARCH).eval()
    initialise(built, 0)
    with torch.no_grad():
        built.embedding.weight.mul_(20)  # far from uniform
    return built


def test_a_model_that_knows_nothing_needs_eight_bits(sample: Sample):
    blank = Decoder(ARCH).eval()
    initialise(blank, 0)
    torch.nn.init.zeros_(blank.embedding.weight)
    np.testing.assert_allclose(quality.sequence_bits(blank, sample), 8 * 16, rtol=1e-6)


def test_bits_are_the_cross_entropy_of_the_following_bytes(model: Decoder, sample: Sample):
    window = torch.from_numpy(sample.window_BW).long()
    with torch.inference_mode():
        logits = model(window[:, :16])
    for row, bits in enumerate(quality.sequence_bits(model, sample)):
        nats = sum(
            functional.cross_entropy(logits[row, place][None], window[row, place + 1][None]).item()
            for place in range(16)
        )
        assert bits == pytest.approx(nats / math.log(2), rel=1e-5)


def test_chunks_cover_every_sequence_once_and_stay_small(monkeypatch: pytest.MonkeyPatch):
    for batch, seq in [(1, 16), (256, 1024), (7, 1000), (256, 16)]:
        parts = list(quality.chunks(batch, seq))
        covered = [index for part in parts for index in range(part.start, part.stop)]
        assert covered == list(range(batch))
        assert all((part.stop - part.start) * seq <= quality.CHUNK_TOKENS for part in parts)


def test_chunking_does_not_change_the_bits(model: Decoder, sample: Sample, monkeypatch: pytest.MonkeyPatch):
    whole = quality.sequence_bits(model, sample)
    monkeypatch.setattr(quality, "CHUNK_TOKENS", 16)
    seen = []
    pieces = quality.sequence_bits(model, sample, after=lambda: seen.append(1))
    np.testing.assert_allclose(pieces, whole, rtol=1e-5)
    assert len(seen) == 3


def test_domains_are_means_weighted_by_bytes(sample: Sample):
    bits_B = np.array([16.0, 64.0, 48.0])
    found = quality.by_domain(bits_B, sample)
    assert found == {"all": (128 / 48, 48), "c": (2.0, 32), "english": (4.0, 16)}
    together = sum(bits * count for name, (bits, count) in found.items() if name != "all")
    assert together == pytest.approx(found["all"][0] * found["all"][1])
