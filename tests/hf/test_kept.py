"""What a built model keeps of a sequence: the same as the closed form and the records say."""

from __future__ import annotations

import pytest

from moe_core import registry
from moe_core.hf.exact import build
from moe_core.perf.cache import Cache

pytestmark = pytest.mark.slow  # importing transformers takes seconds

BUILDABLE = [record for record in registry.records() if record.config]


@pytest.mark.parametrize("record", BUILDABLE, ids=lambda record: record.name)
def test_the_cache_is_that_of_the_closed_form_or_of_the_record(record: registry.Record) -> None:
    found = build(record.config).model
    assert found is not None
    assert found.cache == registry.model(record).cache


def test_layers_that_share_their_keys_keep_none() -> None:
    inner = {
        **{
            "model_type": "gemma3n_text",
            "hidden_size": 64,
            "num_hidden_layers": 10,
            "num_attention_heads": 4,
        },
        **{"num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 96, "vocab_size": 128},
        **{"num_kv_shared_layers": 5, "sliding_window": 32, "vocab_size_per_layer_input": 128},
    }
    found = build(inner).model
    assert found is not None
    every = build({**inner, "num_kv_shared_layers": 0}).model
    assert every is not None
    assert found.cache.kept(8) == every.cache.kept(8) / 2
    assert isinstance(found.cache, Cache)
