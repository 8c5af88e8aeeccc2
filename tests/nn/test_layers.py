import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from moe_core.nn.layers import FFN, RMSNorm, Rotary


def test_rms_norm_divides_by_the_root_mean_square():
    x = torch.randn(5, 16)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(RMSNorm(16)(x), expected)


def test_swiglu_is_silu_of_the_gate_times_up():
    ffn = FFN(8, 12)
    for parameter in ffn.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(3, 8)
    gate, up = x @ ffn.gate_up_GD[:12].T, x @ ffn.gate_up_GD[12:].T
    torch.testing.assert_close(ffn(x), (F.silu(gate) * up) @ ffn.down_DF.T)


@given(shift=st.integers(0, 30))
def test_rotary_scores_depend_on_distance_only(shift):
    rotary = Rotary(8, 64, 10_000.0)
    torch.manual_seed(0)
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    near = (rotary(query, 5) * rotary(key, 2)).sum()
    far = (rotary(query, 5 + shift) * rotary(key, 2 + shift)).sum()
    torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-4)


def test_rotary_keeps_lengths():
    x = torch.randn(2, 3, 7, 8)
    torch.testing.assert_close(Rotary(8, 64, 10_000.0)(x, 3).norm(dim=-1), x.norm(dim=-1))


def test_rotary_tables_are_fp32_in_a_model_of_any_dtype():
    rotary = Rotary(8, 64, 10_000.0)
    cos_SP = rotary.cos_SP
    assert torch.equal(torch.nn.Sequential(rotary).bfloat16()[0].cos_SP, cos_SP)
    query = torch.randn(1, 1, 1, 8).bfloat16()
    assert rotary(query, 63).dtype == torch.bfloat16
