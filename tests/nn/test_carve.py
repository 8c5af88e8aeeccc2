"""Carving, on a random small model (properties) and on the shipped one (quality)."""

import math

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from moe_core.errors import ConfigError, StoreError
from moe_core.nn import calibration, checkpoint, cluster
from moe_core.nn import carve as carving
from moe_core.nn.carve import architecture, carve, group
from moe_core.nn.observe import RoutingLog
from moe_core.nn.reference_routers import with_oracle_router, with_random_router, with_top_k
from moe_core.runs.models import calibrated
from moe_core.settings import CORPUS, MODELS
from tests.nn.small import decoder

DENSE = decoder(seed=1)
IDS = torch.randint(0, 256, (4, 48), generator=torch.Generator().manual_seed(0))
CALIBRATION = calibration.calibrate(DENSE, [IDS])


@settings(max_examples=25, deadline=None)
@given(experts=st.integers(1, 12), shared=st.integers(0, 4))
def test_all_experts_together_are_the_dense_model(experts, shared):
    with torch.no_grad():
        carved = carve(DENSE, CALIBRATION, experts, experts, shared)
        torch.testing.assert_close(carved(IDS), DENSE(IDS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("experts", "shared"), [(1, 0), (5, 0), (6, 2), (12, 1)])
def test_an_ungated_model_is_carved_like_a_gated_one(experts, shared):
    dense = decoder(seed=1, gated=False)
    layers = calibration.calibrate(dense, [IDS])
    with torch.no_grad():
        carved = carve(dense, layers, experts, experts, shared)
        assert carved.feed_forwards[0].gate_up_EGD.shape[1] == carved.arch.experts.width
        torch.testing.assert_close(carved(IDS), dense(IDS), rtol=1e-4, atol=1e-5)
        assert with_oracle_router(carve(dense, layers, experts, 1, shared))(IDS).isfinite().all()


@settings(max_examples=25, deadline=None)
@given(experts=st.integers(1, 12), shared=st.integers(0, 4))
def test_every_neuron_goes_to_exactly_one_place(experts, shared):
    mixture = architecture(DENSE.arch, experts, 1, shared).experts
    groups = group(CALIBRATION[0], mixture)
    placed = torch.cat((groups.shared_V, groups.routed_EW[groups.routed_EW >= 0]))
    assert sorted(placed.tolist()) == list(range(48))


def test_more_experts_than_neurons_are_refused():
    with pytest.raises(ConfigError, match=r"experts \(60\): must leave every expert a neuron of 48"):
        carve(DENSE, CALIBRATION, 60, 1, 0)


def test_the_same_seed_carves_the_same_experts():
    one, two = (carve(DENSE, CALIBRATION, 6, 2, 1, seed=4) for _ in range(2))
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


def test_reference_routers_pick_k_unit_experts():
    carved = carve(DENSE, CALIBRATION, 6, 2, 1)
    for model in (with_random_router(carved, 1), with_oracle_router(carved), with_top_k(carved, 2)):
        log = RoutingLog()
        with torch.no_grad():
            model(IDS, observer=log)
        assert all(routing.expert_ids_N.numel() == IDS.numel() * 2 for _, routing in log.seen)
        assert all((routing.weights_N == 1).all() for _, routing in log.seen)


def test_the_oracle_ranks_experts_by_the_length_of_their_output():
    carved = carve(DENSE, CALIBRATION, 6, 6, 0)
    moe = with_oracle_router(carved).feed_forwards[0]
    x_TD = torch.randn(5, 32)
    routing = moe.router(x_TD)
    for token, best in enumerate(routing.expert_ids_N.view(5, 6)[:, 0]):
        lengths = [
            (F.silu(x_TD[token] @ gate.T) * (x_TD[token] @ up.T) @ down.T).norm()
            for gate, up, down in zip(*moe.gate_up_EGD.chunk(2, dim=1), moe.down_EDF, strict=True)
        ]
        assert int(best) == int(torch.stack(lengths).argmax())


def test_a_calibration_survives_its_file(tmp_path):
    path = tmp_path / "c.safetensors"
    calibration.save(CALIBRATION, path, {"tokens": "192"})
    loaded = calibration.load(path)
    for before, after in zip(CALIBRATION, loaded, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    path.write_bytes(b"nonsense")
    with pytest.raises(StoreError, match=r"c\.safetensors cannot be read"):
        calibration.load(path)


def heldout_windows(count: int = 2, length: int = 256) -> torch.Tensor:
    """`count` windows of every domain of the held-out text."""
    windows = []
    for path in sorted(CORPUS.glob("*.parquet")):
        frame = pq.read_table(path, filters=[("split", "=", "heldout")]).to_pandas()
        text = torch.frombuffer(bytearray("\n".join(frame["text"]).encode()), dtype=torch.uint8)
        step = (len(text) - length - 1) // count
        windows += [text[index * step : index * step + length + 1] for index in range(count)]
    return torch.stack(windows).long()


@torch.no_grad()
def bits_per_byte(model, ids):
    loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    return loss.item() / math.log(2)


@pytest.mark.slow
def test_the_shipped_model_carves_with_little_work_and_well(monkeypatch):
    dense = checkpoint.load(MODELS / "scale-dense.safetensors")
    layers = calibrated()
    solved = []

    def solve(gain_NN, **options):
        solved.append(gain_NN.shape)
        return linear_sum_assignment(gain_NN, **options)

    monkeypatch.setattr(cluster, "linear_sum_assignment", solve)
    carved = carve(dense, layers, 16, 4, 1)  # seconds: benchmarks/carve.py
    experts = carved.arch.experts
    routed = dense.arch.ffn_width - experts.shared_total_width
    assert solved == [(routed, routed)] * cluster.ROUNDS * dense.arch.layers
    ids = heldout_windows()
    best, here = bits_per_byte(dense, ids), bits_per_byte(carved, ids)
    worst, oracle = (
        bits_per_byte(with_random_router(carved), ids),
        bits_per_byte(with_oracle_router(carved), ids),
    )
    assert best < oracle < here < worst
    assert (worst - here) / (worst - best) >= 0.7


def test_fitting_again_brings_a_layer_nearer_to_the_dense_one(monkeypatch):
    fitted = carve(DENSE, CALIBRATION, 4, 2, 1)
    monkeypatch.setattr(carving, "_fit_down", lambda *_: None)
    plain = carve(DENSE, CALIBRATION, 4, 2, 1)
    for ffn, before, after, layer in zip(
        DENSE.feed_forwards, plain.feed_forwards, fitted.feed_forwards, CALIBRATION, strict=True
    ):
        x_TD = layer.inputs_TD.float()
        missing = [(ffn(x_TD) - one(x_TD)).square().sum() for one in (before, after)]
        assert missing[1] < 0.98 * missing[0]
        assert torch.equal(before.router.weight_ED, after.router.weight_ED)
        assert torch.equal(before.gate_up_EGD, after.gate_up_EGD)


def test_what_neurons_fire_with_adds_up_to_what_the_layer_says():
    for moe, layer in zip(carve(DENSE, CALIBRATION, 4, 2, 1).feed_forwards, CALIBRATION, strict=True):
        x_TD = layer.inputs_TD.float()
        down_ND = torch.cat([moe.down_EDF.transpose(1, 2).flatten(0, 1), moe.shared.down_DF.T])
        all_TN, visited_TN = carving._hidden(moe, x_TD)
        assert torch.allclose((all_TN * visited_TN) @ down_ND, moe(x_TD), atol=1e-5)
