"""The formats a checkpoint is stored in, by the schemes in use, against what each of them stores."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core.formats import stored
from moe_core.hf.config import architecture
from moe_core.hf.modules import Matrix, matrices, of_shapes, plain
from moe_core.hf.quantisation import published
from moe_core.hf.schemes import SCHEMES
from tests.hf.configs import flat

MIXTRAL = flat("mixtral", num_local_experts=4, num_experts_per_tok=2)
LINEAR = ("attention", "experts")
INT4 = {"num_bits": 4, "type": "int", "group_size": 32, "strategy": "group"}
FP8 = {"num_bits": 8, "type": "float", "strategy": "channel"}


def form(block: dict[str, Any], component: str = "experts") -> str:
    return published(MIXTRAL | {"quantization_config": block}, matrices(architecture(MIXTRAL))).precision.of(
        component
    )


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block"),
        ({"quant_method": "fp8", "weight_block_size": [64, 32]}, "fp8-g32+0.5"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "int4-g128+20"),
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, "int3-g128+19"),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "int8"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "int4-g128+20"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": False}, "int4-g64+16"),
        ({"quant_method": "auto-round", "bits": 2, "group_size": 32}, "int2-g32+18"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4-g64+32"),
        (
            {
                **{"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
                "bnb_4bit_use_double_quant": True,
            },
            "nf4-g64+8.125",
        ),
        (
            {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
            "int4-g64+32",
        ),
        (
            {
                **{"quant_method": "hqq", "nbits": 2, "group_size": 16},
                **{"scale_quant_params": {"nbits": 8, "group_size": 128}, "zero_quant_params": {"nbits": 8}},
            },
            "int2-g16+16.2578",
        ),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4-g64+32"),
        ({"quant_method": "exl2", "bits": 4.65, "head_bits": 6}, "int4@4.65"),
        ({"quant_method": "exl3", "bits": 3.0}, "int4@3"),
        (
            {
                "quant_method": "torchao",
                "quant_type": "int4_weight_only",
                "quant_type_kwargs": {"group_size": 32},
            },
            "int4-g32+32",
        ),
        (
            {
                "quant_method": "torchao",
                "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}},
            },
            "int4-g128+32",
        ),
        (
            {
                "quant_method": "torchao",
                "quant_type": {"default": {"_type": "Float8DynamicActivationFloat8WeightConfig"}},
            },
            "fp8",
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": INT4}}},
            "int4-g32+16",
        ),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": FP8}}}, "fp8"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"g": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}},
            },
            "nvfp4",
        ),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_algo": "W4A16_AWQ", "group_size": 64}, "int4-g64+16"),
        ({"quant_algo": "MXFP4"}, "mxfp4"),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}},
            },
            "mxfp4",
        ),
        ({"bits": 4, "group_size": 64}, "int4-g64+32"),
        ({"bits": 8, "group_size": 32, "mode": "affine"}, "int8-g32+32"),
        (
            {
                **{"quant_method": "aqlm", "nbits_per_codebook": 16, "num_codebooks": 1},
                **{"in_group_size": 8, "out_group_size": 1},
            },
            "int4@2",
        ),
    ],
)
def test_a_scheme_has_its_own_bits(block: dict[str, Any], expected: str) -> None:
    assert form(block) == expected
    if expected != "mxfp4" or block.get("quant_method") != "mxfp4":
        assert form(block, "attention") == expected
    assert form(block, "norms") == "bf16"


@pytest.mark.parametrize(
    ("block", "head", "embedding", "router"),
    [
        ({"quant_method": "gptq", "bits": 4, "lm_head": True}, "int4-g128+20", "bf16", "bf16"),
        ({"quant_method": "exl2", "bits": 4.0, "head_bits": 6}, "int8@6", "bf16", "bf16"),
        ({"bits": 4, "group_size": 64}, "int4-g64+32", "int4-g64+32", "int4-g64+32"),
        ({"quant_method": "fp8"}, "bf16", "bf16", "bf16"),
    ],
)
def test_what_lies_at_the_ends(block: dict[str, Any], head: str, embedding: str, router: str) -> None:
    found = [form(block, part) for part in ("head", "embedding", "router")]
    assert found == [head, embedding, router]


@pytest.mark.parametrize(
    ("said", "kept"),
    [("float16", "fp16"), ("torch.float32", "fp32"), ("bfloat16", "bf16"), (None, "bf16")],
)
def test_what_is_not_quantised_is_as_it_was_trained(said: str | None, kept: str) -> None:
    assert published({"torch_dtype": said}).precision.default == kept
    block = {"quant_method": "fp8", "ignore": ["lm_head"]}
    assert published({"dtype": said, "quantization_config": block}).precision.of("head") == kept


@pytest.mark.parametrize("said", ["float8_e4m3fn", "int8", 7])
def test_a_dtype_that_is_no_number_of_16_or_32_bits_is_said(said: object) -> None:
    for block in ({}, {"quantization_config": {"quant_method": "fp8"}}):
        found = published({"torch_dtype": said, **block})
        assert found.precision.of("head") == "bf16"
        assert f"dtype ({said}): is not 16 or 32 bits" in found.notes[0]


@pytest.mark.parametrize(
    "scheme",
    [
        {"kv_cache_scheme": {"num_bits": 8, "type": "float"}},
        {"kv_cache_scheme": "FP8"},
        {"kv_cache_quant_algo": "FP8"},
    ],
)
def test_the_format_of_the_cache(scheme: dict[str, Any]) -> None:
    assert published({"quantization_config": {"quant_algo": "FP8", **scheme}}).kv == "fp8"
    assert published({"quantization_config": {"quant_algo": "FP8", "kv_cache_scheme": None}}).kv == "bf16"


@pytest.mark.parametrize(
    "block",
    [
        {"quant_method": "unheard_of"},
        {"bits": 4},
        {"quant_method": "gptq", "bits": "four"},
        {"quant_method": "gptq", "bits": 4, "group_size": 10**9},
        {"quant_method": "compressed-tensors", "config_groups": []},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 9}}}},
        {"quant_method": "fp8", "weight_block_size": [128]},
        {"quant_algo": "FP8", "kv_cache_quant_algo": "FP3"},
        {"quant_method": "torchao", "quant_type": {"default": {"_type": "New", "_data": []}}},
    ],
)
def test_what_is_not_understood_is_said(block: dict[str, Any]) -> None:
    found = published({"quantization_config": block})
    assert found.precision.default == "bf16"
    assert len(found.notes) == 1
    assert found.notes[0].startswith("quantization_config: ")
    assert found.notes[0].endswith("the weights are sized as bf16")


def test_modules_left_alone_by_pattern() -> None:
    """As Kimi-K2.5 states it: only the routed experts are quantised."""
    left = [
        "lm_head",
        "re:.*self_attn.*",
        "re:.*shared_experts.*",
        r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
    ]
    group = {"targets": ["Linear"], "weights": INT4}
    stated = {"quant_method": "compressed-tensors", "config_groups": {"g": group}, "ignore": left}
    found = published({"text_config": {"quantization_config": stated, "num_hidden_layers": 61}})
    parts = ("attention", "experts", "shared", "ffn", "head")
    assert {name: found.precision.of(name) for name in parts} == {
        **dict.fromkeys(parts, "bf16"),
        "experts": "int4-g32+16",
    }


@given(st.integers(0, 10))
def test_modules_left_alone_layer_by_layer_count_by_their_share(many: int) -> None:
    left = [f"model.layers.{n}.self_attn" for n in range(many)]
    config = {"num_hidden_layers": 10, "quantization_config": {"quant_method": "fp8", "ignore": left}}
    bits = float(stored(published(config).precision.of("attention")).bits)
    assert bits == pytest.approx(8 + 8 * many / 10, abs=0.01)


def test_what_is_left_alone_wins_over_a_group_that_names_it() -> None:
    group = {"targets": ["re:.*mlp.*", "re:.*self_attn.*"], "weights": FP8}
    left = [f"re:.*layers\\.{n}\\..*" for n in range(2)]
    block = {"quant_method": "compressed-tensors", "config_groups": {"a": group}, "ignore": left}
    assert [form(block, part) for part in LINEAR] == ["fp8@10.67", "fp8@10.67"]  # two of the six layers
    weight = {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}
    quark = {"quant_method": "quark", "global_quant_config": weight, "layer_quant_config": {"*mlp*": weight}}
    assert form({**quark, "exclude": left}) == "fp8@10.67"


def test_only_the_modules_that_are_listed() -> None:
    inside = [["self_attn.q_proj", "self_attn.k_proj"], ["self_attn.v_proj"]]
    block = {"quant_method": "gptq", "bits": 4, "group_size": 128, "modules_in_block_to_quantize": inside}
    assert form(block) == "bf16"
    share = Fraction(4 * 16 + 2 * 2 * 16, 2 * 4 * 16 + 2 * 2 * 16)  # of heads and keys, without the output
    bits = share * (4 + Fraction(20, 128)) + (1 - share) * 16
    assert float(stored(form(block, "attention")).bits) == pytest.approx(float(bits), rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "own", "expected"),
    [  # torchao keeps fewer than eight bits in a byte each unless it packs them
        ("Int8DynamicActivationInt4WeightConfig", {"group_size": 32}, "int8-g32+24"),
        ("IntxWeightOnlyConfig", {"weight_dtype": "torch.int4"}, "int8-g32+24"),
        (
            "Int8DynamicActivationIntxWeightConfig",
            {"weight_dtype": "torch.int4", "weight_granularity": {"_type": "PerAxis", "_data": {"axis": 0}}},
            "int8",
        ),
        (
            "IntxWeightOnlyConfig",
            {"weight_dtype": "torch.int4", "intx_packing_format": "OPAQUE_ATEN_KLEIDIAI"},
            "int4-g32+32",
        ),
    ],
)
def test_small_integers_in_bytes(kind: str, own: dict[str, Any], expected: str) -> None:
    assert (
        form({"quant_method": "torchao", "quant_type": {"default": {"_type": kind, "_data": own}}})
        == expected
    )


def test_formats_of_the_cache_that_are_said_elsewhere() -> None:
    weight = {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}
    keys = {**weight, "output_tensors": {"dtype": "fp8_e4m3"}}
    quark = {
        "quant_method": "quark",
        "global_quant_config": weight,
        "layer_quant_config": {"*k_proj": keys, "*v_proj": keys},
        "export": {"kv_cache_group": ["*k_proj", "*v_proj"]},
    }
    assert published({"quantization_config": quark}).kv == "fp8"
    alone = published({}, (), {"quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}})
    assert (alone.kv, alone.precision.of("experts"), alone.notes) == ("fp8", "bf16", ())


def test_a_pattern_that_cannot_be_matched_is_said() -> None:
    found = published({"quantization_config": {"quant_method": "fp8", "ignore": [r"re:(\w+\.?)+!"]}})
    assert found.precision.default == "bf16"
    assert "must be short, of few repeats" in found.notes[0]


@pytest.mark.parametrize("said", [7, "FP3", {"num_bits": 3, "type": "float"}])
def test_a_cache_of_no_known_format_leaves_the_weights_known(said: object) -> None:
    found = published({**MIXTRAL, "quantization_config": {"quant_method": "fp8", "kv_cache_scheme": said}})
    assert (found.precision.of("experts"), found.kv) == ("fp8", "bf16")
    assert any("the cache is sized as bf16" in note for note in found.notes)


def test_settings_by_module_name_all_experts_of_a_layer_at_once() -> None:
    named = {"block_sparse_moe.experts.w1": {"nbits": 4}, "self_attn.q_proj": {"nbits": 4}}
    found = {"quant_method": "hqq", "quant_config": named}
    assert (form(found), form(found, "attention")[:5]) == ("bf16@12.17", "bf16@")


def test_blocks_of_compressed_tensors_have_no_group() -> None:
    weights = {"num_bits": 8, "type": "float", "strategy": "block", "group_size": None}
    for structure in ({"block_structure": [128, 128]}, {"block_structure": None}, {}):
        groups = {"group_0": {"targets": ["Linear"], "weights": weights | structure}}
        assert form({"quant_method": "compressed-tensors", "config_groups": groups}) == "fp8_block"


def test_a_block_that_is_no_object_is_said() -> None:
    found = published(MIXTRAL | {"quantization_config": "fp8"})
    assert any("quantization_config (fp8): must be an object" in note for note in found.notes)


def test_groups_of_their_own() -> None:
    fp8 = {"targets": ["re:.*self_attn.*"], "weights": FP8}
    fp4 = {"targets": ["re:.*experts.*"], "weights": {"num_bits": 4, "type": "float", "group_size": 16}}
    block = {"quant_method": "modelopt", "config_groups": {"a": fp8, "b": fp4}}
    assert [form(block, part) for part in LINEAR] == ["fp8", "nvfp4"]


def test_a_file_beside_the_config_says_it() -> None:
    beside = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": []}}
    found = published(MIXTRAL, matrices(architecture(MIXTRAL)), beside)
    assert (found.precision.of("experts"), found.kv) == ("nvfp4", "fp8")


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("model.layers.3.block_sparse_moe.experts.0.w1", "layers.3.mlp.experts.0.gate_proj"),
        ("layers.0.attn.wq_b", "layers.0.self_attn.wq_b"),
        ("language_model.model.layers.1.self_attn.o_proj.weight", "layers.1.self_attn.o_proj"),
        ("language_model.lm_head", "lm_head"),
        ("head", "lm_head"),
        ("layers.1.ffn.shared_experts.w2", "layers.1.mlp.shared_experts.down_proj"),
    ],
)
def test_one_spelling(name: str, spelling: str) -> None:
    assert plain(name) == spelling


def test_stacked_experts_are_matrices_of_one_layer() -> None:
    shapes = {
        "model.layers.0.mlp.experts.gate_up_proj": (8, 64, 32),
        "model.layers.0.input_layernorm.weight": (32,),
    }
    assert of_shapes(shapes, 8) == [Matrix("layers.0.mlp.experts.0.gate_proj", "experts", 8 * 64 * 32)]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 300)
    | st.floats(0, 20)
    | st.sampled_from(
        ["fp8", "NVFP4", "int", "float", "group", "channel", "lm_head", "re:.*mlp.*", "re:(", "x"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["weights", "a", "_type", "_data"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        *(
            "bits",
            "group_size",
            "weight_block_size",
            "config_groups",
            "quant_algo",
            "ignore",
            "kv_cache_scheme",
        ),
        *(
            "quant_config",
            "quant_type",
            "load_in_4bit",
            "zero_point",
            "global_quant_config",
            "quantized_layers",
        ),
        *("modules_to_not_convert", "exclude_modules", "head_bits", "mode", "dynamic", "extra_config"),
    ]
)


@given(st.sampled_from([*SCHEMES, "unknown", None, 7]), st.dictionaries(FIELDS, VALUES, max_size=5))
def test_no_silent_default(method: object, block: dict[str, Any]) -> None:
    """A block changes a number, or a sentence says why not; it never raises."""
    stated = {"quant_method": method, **block}
    config = MIXTRAL | {"quantization_config": stated}
    json.dumps(config)
    found = published(config, matrices(architecture(MIXTRAL)))
    bf16 = {found.precision.of(part) for part in ("attention", "experts", "ffn", "head")} == {"bf16"}
    every_module_left = any(item in str(block) for item in ("mlp", "re:", "x", "lm_head"))
    assert not bf16 or found.notes or every_module_left


INT = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
BLOCKS: list[dict[str, Any]] = [
    {"quant_method": "gptq", "bits": 4, "group_size": 128},
    {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
    {"quant_method": "auto-round", "bits": 4, "group_size": 128},
    {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
    {"quant_method": "exl2", "bits": 4.0, "head_bits": 6},
    {"quant_method": "compressed-tensors", "config_groups": {"g": {"targets": ["Linear"], "weights": INT}}},
    {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig"}}},
    {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16},
    {"quant_method": "fp8", "weight_block_size": [128, 128]},
    {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    {"bits": 4, "group_size": 64},
]
DECISIVE = (
    "quant_method",
    "quant_algo",
    "quant_type",
    "_type",
    "bits",
    "nbits",
    "num_bits",
    "strategy",
    "type",
)


def altered(block: Any, field: str, value: object) -> Any:
    """The block with another value in a field, wherever it stands."""
    if isinstance(block, dict):
        return {key: value if key == field else altered(own, field, value) for key, own in block.items()}
    return block


@given(
    st.sampled_from(BLOCKS), st.sampled_from(DECISIVE), st.sampled_from(["new", 17, -1, None, [], {}, True])
)
def test_a_decisive_field_of_no_known_value_is_said(block: dict[str, Any], field: str, value: object) -> None:
    other = altered(block, field, value)
    found = published(MIXTRAL | {"quantization_config": other}, matrices(architecture(MIXTRAL)))
    same = found.precision.of("experts") == form(block)
    unsaid = field in ("strategy", "quant_method") and not value  # the other fields say it
    assert found.notes or not same or other == block or unsaid


@given(st.sampled_from(BLOCKS[:6]), st.integers(2, 8))
def test_other_bits_are_other_bytes(block: dict[str, Any], bits: int) -> None:
    other = block
    for field in ("bits", "nbits", "num_bits"):
        other = altered(other, field, bits)
    assert (form(other) == form(block)) == (other == block)


def test_a_field_that_nobody_knows_is_named_where_it_says_something() -> None:
    block = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
    assert published({"quantization_config": block}).notes == ()
    odd = {**block, "super_scales": 7, "outlier_rows": None}
    (note,) = published({"quantization_config": odd}).notes
    assert note == "quantization_config: super_scales: not known here, so it changes no number"


@pytest.mark.parametrize(
    ("block", "part", "form"),
    [
        ({"quant_method": "fp8", "activation_scheme": "static", "kv_cache_scheme": "static"}, "kv", "fp8"),
        (
            {"quant_method": "torchao", "quant_type": {"default": {"_type": "NVFP4InferenceConfig"}}},
            "ffn",
            "nvfp4",
        ),
    ],
)
def test_older_words_of_a_scheme(block: dict[str, Any], part: str, form: str) -> None:
    found = published({"quantization_config": block})
    assert (found.kv if part == "kv" else found.precision.of(part)) == form


def test_a_target_may_be_the_embedding() -> None:
    weights = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}
    groups = {
        "a": {"targets": ["Linear"], "weights": INT},
        "b": {"targets": ["Embedding"], "weights": weights},
    }
    found = published(
        {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": groups}}
    )
    assert found.precision.of("embedding") == "int8"
    assert found.precision.of("attention") == "int4"
