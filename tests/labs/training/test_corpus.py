"""Corpus: windows by seed, their domains, held-out text that is nobody's training text."""

from __future__ import annotations

import itertools

import pytest
import torch

from moe_core.labs.training import arms, corpus
from moe_core.nn.model import Decoder
from moe_core.runs import text
from tests.labs.training.tiny import TINY


def test_windows_depend_on_the_seed_alone():
    def take(seed: int) -> list[torch.Tensor]:
        return [window.ids_BS for window in itertools.islice(corpus.windows(4, 16, seed), 3)]

    first, again, other = take(1), take(1), take(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (4, 17)


def test_a_window_is_text_of_its_domain():
    texts = text.load("train")
    window = next(corpus.windows(16, 32, seed=3))
    for ids_S, domain in zip(window.ids_BS, window.domains_B.tolist(), strict=True):
        assert bytes(ids_S[:8].tolist()) in texts[corpus.domains()[domain]].tobytes()


def test_windows_of_one_domain():
    window = next(corpus.windows(8, 32, seed=0, only="c"))
    assert set(window.domains_B.tolist()) == {corpus.domains().index("c")}
    assert bytes(window.ids_BS[0].tolist()) in text.load("train")["c"].tobytes()


def test_every_so_many_windows_are_long_at_the_same_number_of_tokens():
    shapes = [tuple(w.ids_BS.shape) for w in itertools.islice(corpus.mixed(64, 8, 32, 3, 0), 6)]
    assert shapes == [(8, 9), (8, 9), (2, 33)] * 2


def test_heldout_text_is_as_much_of_every_domain_and_none_of_training():
    window = corpus.heldout(100, 32)
    assert torch.bincount(window.domains_B).tolist() == [3] * len(corpus.domains())
    first = window.ids_BS[window.domains_B == corpus.domains().index("python")][0]
    assert bytes(first.tolist()) == text.load("heldout")["python"][:33].tobytes()
    assert bytes(first.tolist()) not in text.load("train")["python"].tobytes()
    assert set(corpus.heldout(100, 32, only="c").domains_B.tolist()) == {corpus.domains().index("c")}


@pytest.mark.parametrize("reorder", [corpus.by_domain, corpus.shuffled])
def test_another_order_keeps_sequences_with_their_domains(reorder: object):
    window = next(corpus.windows(12, 8, seed=5))
    found = reorder(window)  # type: ignore[operator]

    def rows(one: corpus.TextWindow) -> list[tuple[int, ...]]:
        pairs = zip(one.ids_BS.tolist(), one.domains_B.tolist(), strict=True)
        return sorted((domain, *ids) for ids, domain in pairs)

    assert rows(found) == rows(window)
    assert not torch.equal(found.ids_BS, window.ids_BS)


def test_by_domain_sorts_and_shuffled_mixes():
    window = corpus.heldout(256, 16)
    mixed = corpus.shuffled(window)
    assert mixed.domains_B[:16].unique().numel() > 4
    assert torch.equal(mixed.ids_BS, corpus.shuffled(window).ids_BS)
    assert torch.equal(corpus.by_domain(mixed).domains_B, window.domains_B)


def test_a_model_that_knows_nothing_needs_eight_bits():
    model = Decoder(arms.dense(TINY, 16))
    with torch.no_grad():
        model.embedding.weight.zero_()
    assert corpus.bits_per_byte(model, corpus.heldout(64, 16)) == pytest.approx(8.0, abs=1e-6)
    assert model.training


def test_bits_of_sequences_are_those_of_the_window():
    model = Decoder(arms.dense(TINY, 16))
    window = corpus.heldout(64, 16)
    each_B = corpus.bits_of_each(model, window)
    assert each_B.shape == window.domains_B.shape
    assert float(each_B.mean()) == pytest.approx(corpus.bits_per_byte(model, window))
