"""The pool of random weights and the routings that kernels are timed with."""

import pytest
import torch

from moe_core.labs.bank import Pool, random_routing
from moe_core.nn.experts import KERNELS

CPU = torch.device("cpu")


def test_what_is_taken_is_what_was_not_touched_for_longest():
    pool = Pool.filled(3 * 4096, torch.float32, CPU)
    starts = [pool.take(4096).data_ptr() for _ in range(4)]
    assert len(set(starts)) == 3
    assert starts[3] == starts[0]


def test_a_view_in_another_dtype_is_the_same_memory_and_holds_numbers():
    pool = Pool.filled(2**16, torch.bfloat16, CPU)
    viewed = pool.viewed(torch.float32)
    assert viewed.nbytes == pool.nbytes
    taken = viewed.take(2**15)
    assert torch.isfinite(taken).all()
    assert 0.01 < float(taken.std()) < 0.1


def test_a_dense_network_in_slices_is_the_whole_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("moe_core.labs.bank.MOST_COLUMNS", 16)
    pool = Pool.filled(2**14, torch.float32, CPU)
    network, x_TD = pool.dense(8, 64), torch.randn(5, 8)
    assert network.gate_up_SGD.shape == (4, 32, 8)
    parts = zip(network.gate_up_SGD, network.down_SDF, strict=True)
    expected = sum(
        torch.nn.functional.silu(x_TD @ up[:16].T) * (x_TD @ up[16:].T) @ down.T for up, down in parts
    )
    torch.testing.assert_close(network(x_TD), expected)


def test_random_routing_is_token_choice_without_repeats():
    routing = random_routing(64, 16, 4, seed=1, device=CPU)
    chosen_TK = routing.expert_ids_N.view(64, 4)
    assert all(len(set(row)) == 4 for row in chosen_TK.tolist())
    torch.testing.assert_close(routing.weights_N.view(64, 4).sum(1), torch.ones(64))


def test_one_pair_for_each_expert():
    routing = random_routing(4, 16, 4, seed=0, device=CPU, each=True)
    assert sorted(routing.expert_ids_N.tolist()) == list(range(16))


def test_every_kernel_computes_a_bank_from_the_pool():
    pool = Pool.filled(2**16, torch.float32, CPU)
    weights, x_TD = pool.experts(16, 8, 4), torch.randn(6, 16)
    routing = random_routing(6, 4, 2, seed=0, device=CPU)
    expected = KERNELS["loop"](x_TD, routing, weights)
    torch.testing.assert_close(KERNELS["auto"](x_TD, routing, weights), expected, atol=1e-5, rtol=1e-4)
