"""Device model: predictions of a device that follows the law, and the roof they never beat."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.errors import ConfigError
from moe_core.perf import device_model
from moe_core.perf.calibrate import RateCurve
from moe_core.perf.device_model import Mixture
from tests import synthetic_layers

KNOWN = synthetic_layers.calibration()
layers = st.builds(
    Mixture,
    hidden=st.integers(16, 8192),
    width=st.integers(16, 16384),
    experts=st.integers(8, 256),
    top_k=st.integers(1, 8),
    shared_width=st.sampled_from([0, 64, 2048]),
)
tokens = st.integers(1, 8192)


@given(layers, tokens, st.sampled_from([None, 2.0**20, 2.0**35]), st.sampled_from(["kernel", "layer"]))
def test_a_mixture_never_beats_the_calibrated_roof(layer, count, held, scored):
    guess = device_model.mixture(KNOWN, "bf16", layer, count, working_set=held, scored=scored)
    roof = device_model.roof(KNOWN, "bf16", held)
    assert guess.seconds >= roof.seconds(guess.flops, guess.bytes) * (1 - 1e-12)
    assert guess.seconds >= guess.roof_s > 0


@given(st.integers(16, 8192), st.integers(16, 200_000), tokens, st.sampled_from([None, 2.0**20]))
def test_a_dense_network_never_beats_it_either(hidden, width, count, held):
    guess = device_model.dense(KNOWN, "bf16", hidden, width, count, working_set=held)
    assert guess.seconds >= device_model.roof(KNOWN, "bf16", held).seconds(guess.flops, guess.bytes) * (
        1 - 1e-12
    )


@pytest.mark.parametrize("count", [1, 4, 16, 64, 256, 1024])
@pytest.mark.parametrize("sizes", [(1024, 3584, 8, 2), (1024, 256, 64, 6), (2048, 768, 128, 8)])
def test_a_device_that_follows_the_law_is_predicted(sizes, count):
    """Shapes the calibration never saw. What is left is the step between measured loads."""
    guess = device_model.mixture(KNOWN, "bf16", Mixture(*sizes), count, scored="kernel")
    assert guess.seconds == pytest.approx(synthetic_layers.mixture_s(*sizes, count), rel=0.08)


def test_charging_only_the_chosen_experts_would_be_far_off():
    """The gate can fail: without distinct experts a mid-size batch is predicted at a fraction of its time."""
    layer, count = Mixture(2048, 768, 128, 8), 64
    right = device_model.mixture(KNOWN, "bf16", layer, count, scored="kernel")
    wrong = device_model.mixture(KNOWN, "bf16", layer, count, distinct=8, scored="kernel")
    truth = synthetic_layers.mixture_s(2048, 768, 128, 8, count)
    assert abs(right.seconds / truth - 1) < 0.08
    assert wrong.seconds < truth / 4


@given(layers, st.integers(0, 11))
def test_more_tokens_never_take_less_time(layer, power):
    few, many = (
        device_model.mixture(KNOWN, "bf16", layer, 2**exponent).seconds for exponent in (power, power + 1)
    )
    assert many >= few * 0.999


def test_weights_in_a_cache_are_read_faster():
    layer = Mixture(256, 61, 16, 4, 61)
    cached, streamed = (
        device_model.mixture(KNOWN, "bf16", layer, 16, working_set=held).seconds for held in (2.0**18, None)
    )
    assert cached < streamed


def test_a_gpu_that_gathers_is_charged_copies_until_the_limit():
    gather = (
        synthetic_layers.calibration()
        .rates["bf16"]
        .ffn[0]
        .model_copy(update={"rows": (1.0, 64.0), "seconds": (1.0, 64.0)}),
    )
    rates = KNOWN.rates["bf16"].model_copy(update={"gather": gather, "gather_bytes": 1e7})
    gpu = KNOWN.model_copy(update={"rates": {"bf16": rates}})
    layer = Mixture(64, 32, 64, 4)
    small, large = (device_model.mixture(gpu, "bf16", layer, n, scored="kernel") for n in (4, 1024))
    assert small.parts["experts"] == pytest.approx(16.0, rel=0.05)
    assert large.parts["experts"] < 1.0


def test_an_unknown_dtype_is_one_sentence():
    with pytest.raises(ConfigError, match=r"dtype \(fp8\): must be one of bf16, fp32"):
        device_model.dense(KNOWN, "fp8", 64, 64, 1)


def test_widths_of_the_dense_counterparts():
    layer = Mixture(2048, 768, 128, 8, 512)
    assert (layer.active_width, layer.total_width) == (8 * 768 + 512, 128 * 768 + 512)


def test_a_width_that_vectors_do_not_divide_takes_longer():
    rates = KNOWN.rates["bf16"]
    slower = RateCurve(size=1e5, rows=(1.0, 64.0), seconds=(1.0, 3.0))
    odd = rates.model_copy(update={"ragged_experts": slower, "ragged_ffn": slower})
    device = KNOWN.model_copy(update={"rates": {"bf16": odd}})
    for width, factor in ((64, 1.0), (61, 3.0)):
        before, after = (
            device_model.dense(known, "bf16", 256, width, 1024).seconds for known in (KNOWN, device)
        )
        assert after == pytest.approx(factor * before)
        layer = Mixture(256, width, 16, 4)
        plain, ragged = (
            device_model.mixture(known, "bf16", layer, 1024).parts["experts"] for known in (KNOWN, device)
        )
        assert ragged == pytest.approx(factor * plain)
