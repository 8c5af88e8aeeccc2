"""One layer's answer: measured where a table holds it, scaled to another load, modelled elsewhere."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_core import hardware
from moe_core.errors import ConfigError
from moe_core.perf.expert_load import expected
from moe_core.perf.moe_layer import LayerCase
from moe_core.silicon import tables
from moe_core.silicon.layer import estimate

H100 = hardware.get("H100")
MIXTRAL = LayerCase(64, 4096, 14336, 8, 2)


def test_a_measured_point_is_shown_as_measured():
    found = estimate(H100, "bf16", MIXTRAL, load="power_law_1.2")
    shape = {"hidden": 4096, "inter": 14336, "experts": 8, "top_k": 2, "distribution": "power_law_1.2"}
    assert found.source == "measured elsewhere"
    assert found.seconds == tables.moe(tables.Where("h100_sxm", "vllm", "bf16"), 64, **shape)
    assert found.lower < found.seconds < found.upper


def test_another_load_on_a_measured_shape_is_scaled_and_says_so():
    even, hot = (estimate(H100, "bf16", MIXTRAL, load=load) for load in (None, [8, 1, 1, 1, 1, 1, 1, 1]))
    assert even.source == hot.source == "modelled"
    assert "power_law_1.01" in even.note
    assert estimate(H100, "bf16", MIXTRAL, load="power_law_1.01").seconds == pytest.approx(
        even.seconds, rel=0.2
    )


def test_an_edited_layer_is_modelled_with_a_wider_interval():
    edited = estimate(H100, "bf16", MIXTRAL._replace(inter=12_288))
    measured = estimate(H100, "bf16", MIXTRAL, load="balanced")
    assert edited.source == "modelled"
    assert "fitted" in edited.note
    assert edited.upper / edited.lower > measured.upper / measured.lower


def test_a_device_without_tables_says_whose_constants_it_has():
    near, far = (
        estimate(hardware.get(name), "bf16", MIXTRAL._replace(inter=12_288)) for name in ("H100", "H20")
    )
    assert "scaled by the data sheets" in far.note
    assert far.upper / far.lower > near.upper / near.lower


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["A100 80GB", "H100", "H200", "B200", "L40S", "H20", "MI300X"]),
    st.sampled_from(["bf16", "fp8", "int4"]),
    st.integers(1, 16_384),
    st.sampled_from([(8, 2), (64, 6), (128, 8), (256, 8)]),
    st.sampled_from([(2048, 768), (4096, 14336), (7168, 2048), (3000, 1000)]),
    st.sampled_from([(1, 1), (2, 1), (1, 8)]),
)
def test_no_answer_beats_the_roof(name, dtype, tokens, bank, sizes, split):
    device = hardware.get(name)
    case = LayerCase(tokens, *sizes, *bank, *split)
    found = estimate(device, dtype, case)
    roof = max(found.bytes / device.bandwidth, found.flops / device.peak("fp8" if dtype == "fp8" else "bf16"))
    assert found.lower >= roof * (1 - 1e-6)
    assert found.lower <= found.seconds <= found.upper
    assert found.distinct == pytest.approx(expected(*bank, tokens, split[1]).distinct)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        (MIXTRAL._replace(top_k=9), r"top_k \(9\): must be between 1 and experts \(8\)"),
        (MIXTRAL._replace(ep=3), r"ep \(3\): must divide experts \(8\)"),
        (MIXTRAL._replace(tokens=0), r"tokens \(0\): must be at least 1"),
        (MIXTRAL._replace(tp=20_000), r"tp \(20000\): must be at most the expert width \(14336\)"),
    ],
)
def test_impossible_cases_are_one_sentence(case, sentence):
    with pytest.raises(ConfigError, match=sentence):
        estimate(H100, "bf16", case)


def test_unknown_names_are_one_sentence():
    with pytest.raises(ConfigError, match=r"framework \(tgi\): must be one of sglang, vllm"):
        estimate(H100, "bf16", MIXTRAL, framework="tgi")
    with pytest.raises(ConfigError, match=r"distribution \(zipf\)"):
        estimate(H100, "bf16", MIXTRAL, load="zipf")
