"""The MoE layer's time: never below the roof, never less for more work."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.perf.expert_load import expected
from moe_core.perf.moe_layer import Constants, LayerCase, Machine, overhead, roof, seconds, work

H100 = Machine(3.35e12, 989.5e12, 50e6, 2.0)


@dataclass(frozen=True)
class Drawn:
    case: LayerCase
    constants: Constants

    @property
    def work(self):
        return work(self.case, load_of(self.case), H100)


def load_of(case):
    return expected(case.experts, case.top_k, case.tokens, case.ep)


def cases():
    bank = st.sampled_from([(8, 2), (64, 6), (128, 8), (256, 8)])
    return st.builds(
        lambda bank, tokens, hidden, inter, ep, gated: LayerCase(tokens, hidden, inter, *bank, 1, ep, gated),
        bank,
        st.integers(1, 20_000),
        st.sampled_from([1024, 2048, 4096, 7168]),
        st.integers(64, 16_384),
        st.sampled_from([1, 2, 8]),
        st.booleans(),
    )


def constants():
    return st.lists(st.floats(0.01, 50), min_size=28, max_size=28).map(lambda values: Constants(*values))


@given(st.builds(Drawn, cases(), constants()))
def test_no_constants_beat_the_roof(drawn):
    found = drawn.work
    assert seconds(found, drawn.constants) >= roof(found) * (1 - 1e-9)
    assert seconds(found, drawn.constants, cached=True) <= seconds(found, drawn.constants) * (1 + 1e-9)
    assert 0 < overhead(found, drawn.constants) < seconds(found, drawn.constants)


@given(cases(), st.sampled_from(["hidden", "inter"]))
def test_a_larger_expert_never_takes_less(case, field):
    larger = case._replace(**{field: 2 * getattr(case, field)})
    aligned = [c._replace(inter=c.inter // 16 * 16 + 16) for c in (case, larger)]
    less, more = (seconds(work(c, load_of(c), H100), Constants()) for c in aligned)
    assert more >= less


def test_arrays_and_numbers_agree():
    one = LayerCase(64, 4096, 14336, 8, 2)
    many = LayerCase(*(np.array([value, value]) for value in one))
    load = load_of(one)
    each = seconds(work(one, load, H100), Constants())
    both = seconds(work(many, type(load)(*(np.array([v, v]) for v in load)), H100), Constants())
    assert both == pytest.approx([each, each])


def test_two_matrices_read_a_third_less():
    gated, plain = (
        work(LayerCase(8, 4096, 2048, 64, 6, gated=g), load_of(LayerCase(8, 4096, 2048, 64, 6)), H100)
        for g in (True, False)
    )
    assert plain.memory == pytest.approx(2 / 3 * gated.memory)
    assert plain.flops == pytest.approx(2 / 3 * gated.flops)


def test_one_token_of_mixtral_reads_two_experts():
    case = LayerCase(1, 4096, 14336, 8, 2)
    assert work(case, load_of(case), H100).memory * H100.bandwidth == pytest.approx(2 * 3 * 4096 * 14336 * 2)
