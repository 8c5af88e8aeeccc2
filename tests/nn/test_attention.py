import math

import torch

from moe_core.nn.attention import Attention, causal_mask
from moe_core.nn.layers import Rotary
from moe_core.specs import GQA


def naive(attention: Attention, x_BSD: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """One head and one query at a time."""
    spec = attention.spec
    heads = [
        x.unflatten(-1, (-1, spec.head_dim)).transpose(1, 2)
        for x in (attention.query(x_BSD), attention.key(x_BSD), attention.value(x_BSD))
    ]
    query, key, value = rotary(heads[0], 0), rotary(heads[1], 0), heads[2]
    out = torch.zeros_like(query)
    for head in range(spec.heads):
        group = head // (spec.heads // spec.kv_heads)
        for position in range(x_BSD.shape[1]):
            first = 0 if spec.window is None else max(0, position - spec.window + 1)
            seen = slice(first, position + 1)
            scores = (
                query[:, head, position, None]
                @ key[:, group, seen].transpose(1, 2)
                / math.sqrt(spec.head_dim)
            )
            out[:, head, position] = (scores.softmax(-1) @ value[:, group, seen])[:, 0]
    return attention.out(out.transpose(1, 2).flatten(2))


def test_grouped_query_attention_equals_one_head_at_a_time():
    for window in (None, 3):
        torch.manual_seed(0)
        attention = Attention(32, GQA(heads=4, kv_heads=2, head_dim=8, qk_norm=False, window=window))
        rotary, x = Rotary(8, 64, 10_000.0), torch.randn(2, 9, 32)
        torch.testing.assert_close(attention(x, rotary), naive(attention, x, rotary), rtol=1e-4, atol=1e-5)


def test_causal_mask_looks_back_only():
    mask = causal_mask(2, 5, None, torch.device("cpu"))
    assert mask.tolist() == [[True, True, True, True, False], [True] * 5]
    assert causal_mask(2, 5, 2, torch.device("cpu")).sum(1).tolist() == [2, 2]
