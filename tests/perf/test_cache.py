"""The cache a sequence leaves behind, against the published bytes a token and against what is allocated."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_core.nn.model import Decoder
from moe_core.perf.cache import cache
from moe_core.specs import GQA, Architecture, DeltaNet, Extras, Indexer
from tests.perf import specs
from tests.perf.test_params import MIXTRAL, V3


@settings(max_examples=60, deadline=None)
@given(specs.architectures(), st.integers(1, 3), st.integers(1, 64))
def test_bytes_are_those_the_decoder_allocates(arch: Architecture, batch: int, positions: int) -> None:
    attention = arch.attention.model_copy(update={"window": None})  # the decoder keeps every position
    arch = arch.model_copy(update={"attention": attention})
    with torch.device("meta"):
        allocated = Decoder(arch).to(torch.bfloat16).new_cache(batch, positions)
    assert batch * cache(arch).sequence_bytes(positions, "bf16") == allocated.nbytes


def test_published_bytes_per_token() -> None:
    assert cache(MIXTRAL).token_bytes("bf16") == 131_072
    assert cache(V3).token_bytes("bf16") == 70_272
    assert cache(MIXTRAL).token_bytes("fp8") == 65_536


def test_a_window_stops_growing() -> None:
    windowed = MIXTRAL.model_copy(update={"attention": GQA(heads=32, kv_heads=8, head_dim=128, window=4096)})
    assert cache(windowed).sequence_bytes(4096, "bf16") == cache(MIXTRAL).sequence_bytes(4096, "bf16")
    assert cache(windowed).sequence_bytes(100_000, "bf16") == 4096 * 131_072
    assert cache(windowed).token_bytes("bf16") == 131_072


def test_alternating_windows_grow_in_the_full_layers_only() -> None:
    attention = GQA(heads=32, kv_heads=8, head_dim=128, window=128)
    mixed = MIXTRAL.model_copy(update={"attention": attention, "extras": Extras(full_every=2)})
    at = [cache(mixed).sequence_bytes(n, "bf16") for n in (128, 1000, 1001)]
    assert at[0] == 128 * 131_072
    assert at[2] - at[1] == 131_072 // 2


def test_linear_attention_keeps_a_state_whatever_the_context() -> None:
    delta = DeltaNet(key_heads=16, value_heads=32, key_dim=128, value_dim=128)
    hybrid = MIXTRAL.model_copy(update={"extras": Extras(full_every=4, delta=delta)})
    kept = cache(hybrid)
    assert kept.token_bytes("bf16") == 131_072 // 4
    assert kept.state_bytes() == 24 * (32 * 128 * 128 * 4 + (2 * 16 * 128 + 32 * 128) * 4 * 2)


def test_an_indexer_keeps_one_byte_an_element() -> None:
    indexed = V3.model_copy(update={"extras": Extras(indexer=Indexer(heads=64, head_dim=128))})
    more = cache(indexed).sequence_bytes(1000, "bf16") - cache(V3).sequence_bytes(1000, "bf16")
    assert more == 1000 * 61 * 128


@pytest.mark.parametrize("context", [1, 7, 4096])
def test_every_token_costs_the_same_without_windows(context: int) -> None:
    assert cache(V3).sequence_bytes(context, "bf16") == context * cache(V3).token_bytes("bf16")
