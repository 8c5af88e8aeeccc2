"""The bytes a run reads: every domain in turn, or the user's own text whatever it holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.runs import text
from moe_core.specs import RunSpec


def question(**fields: object) -> RunSpec:
    return RunSpec(**{"seq": 32, "decode_steps": 4, **fields})


def test_eight_sequences_read_all_eight_domains():
    sample = text.read(question(batch=8))
    assert sorted(sample.domains) == sorted(text.load("heldout"))
    assert sample.window_BW.shape == (8, 36)


def test_few_sequences_read_different_domains_and_say_which():
    sample = text.read(question(batch=3))
    assert len(sample.domains) == 3
    assert f"only {', '.join(sample.domains)} occur" in sample.rule


def test_windows_are_held_out_and_start_with_a_whole_character():
    sample = text.read(question(batch=16))
    for window, domain in zip(sample.window_BW, sample.domains_B, strict=True):
        assert window.tobytes() in text.load("heldout")[domain].tobytes()
        assert window[0] & 0xC0 != 0x80


def test_a_larger_batch_and_a_longer_sequence_read_the_same_texts_and_more():
    small, large = text.read(question(batch=5)), text.read(question(batch=11, seq=64))
    np.testing.assert_array_equal(small.window_BW, large.window_BW[:5, :36])


def test_no_two_windows_of_the_largest_batch_overlap():
    sample = text.read(question(batch=256, seq=1024, decode_steps=256))
    for domain in sample.domains:
        data = text.load("heldout")[domain].tobytes()
        mine = sample.window_BW[np.array(sample.domains_B) == domain]
        starts = sorted(data.index(window.tobytes()) for window in mine)
        assert min(np.diff(starts)) >= sample.window_BW.shape[1]


def test_another_seed_reads_other_windows():
    one, two = text.read(question(seed=1)), text.read(question(seed=2))
    assert not np.array_equal(one.window_BW, two.window_BW)


@given(
    st.one_of(st.text(min_size=1), st.sampled_from(["x", "\0", "🙂", "שלום עולם", "\u202eabc"])),
    st.integers(1, 4),
)
def test_own_text_is_read_on_from_sequence_to_sequence_and_then_again(own: str, batch: int):
    sample = text.read(question(text=own, batch=batch, seq=16))
    data = own.encode()
    read_on = sample.window_BW[:, :16].tobytes()
    assert read_on == (data * (16 * batch // len(data) + 1))[: 16 * batch]
    assert all(
        row[:4].tobytes() == before[16:].tobytes()
        for before, row in zip(sample.window_BW, sample.window_BW[1:], strict=False)
    )
    assert sample.domains == (text.OWN,)


@pytest.mark.parametrize(("length", "says"), [(8, "repeated 4 times"), (32, "in full"), (33, "cut to")])
def test_the_rule_for_own_text_says_what_became_of_it(length: int, says: str):
    rule = text.read(question(text="a" * length, batch=2, seq=16)).rule
    assert says in rule
    assert f"{length} bytes" in rule


def test_tokens_are_one_row_a_byte():
    sample = text.read(question(batch=2, seq=16))
    columns = sample.columns()
    assert {len(column) for column in columns.values()} == {32}
    assert columns["byte"][17] == sample.window_BW[1, 1]
    assert (columns["sequence"][17], columns["position"][17]) == (1, 1)
    assert columns["domain"][17] == sample.domains_B[1]
