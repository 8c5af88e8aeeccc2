"""Experts in host memory: bytes on each side and over the link."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.perf.memory import model
from moe_core.perf.offload import offload
from tests.perf.test_params import MIXTRAL

SUBJECT = model(MIXTRAL)


def test_all_experts_on_the_host() -> None:
    found = offload(SUBJECT, 1.0, link=32e9)
    assert found.host == 2 * 45_097_156_608
    assert found.device + found.host == 93_405_585_408
    assert found.crossing == found.host // 4  # one token visits 2 of 8
    assert found.moved == pytest.approx(0.7046, abs=1e-4)


@given(st.floats(0, 1), st.integers(1, 100))
def test_bytes_are_conserved_and_more_tokens_cross_more(share: float, tokens: int) -> None:
    found = offload(SUBJECT, share, 32e9, tokens)
    assert found.device + found.host == 93_405_585_408
    assert found.crossing <= offload(SUBJECT, share, 32e9, tokens + 1).crossing <= found.host


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"share \(1\.5\)"):
        offload(SUBJECT, 1.5, 32e9)
    with pytest.raises(ConfigError, match="is dense"):
        offload(model(MIXTRAL.model_copy(update={"experts": None, "ffn_width": 8})), 0.5, 32e9)
