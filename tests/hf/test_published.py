"""Published configurations, as they are shipped and as people brought them: each sized in its own format.

`published.json.xz` holds the configurations inside the wheel aiconfigurator-core 0.12.0 (Apache-2.0, NVIDIA),
`reported.json` small ones after public reports; both as {name: {config, beside}}.
"""

from __future__ import annotations

import json
import lzma
from fnmatch import fnmatch
from math import prod
from pathlib import Path
from typing import Any

import pytest

from moe_core.errors import ConfigError
from moe_core.hf import sizes
from moe_core.hf.exact import build
from moe_core.perf import memory
from moe_core.perf.memory import Workload

pytestmark = pytest.mark.slow  # importing transformers takes seconds

HERE = Path(__file__).parent
PUBLISHED: dict[str, Any] = json.loads(lzma.decompress((HERE / "published.json.xz").read_bytes()))
REPORTED: dict[str, Any] = json.loads((HERE / "reported.json").read_text(encoding="utf-8"))
UNKNOWN = {
    *("MiniMaxAI--MiniMax-M3", "XiaomiMiMo--MiMo-7B-Base", "moonshotai--Kimi-K3"),
    *("nvidia--Llama-3_3-Nemotron-Super-49B-v1", "sgl-project--DeepSeek-V4-Flash-FP8"),
    "sgl-project--DeepSeek-V4-Pro-FP8",
}
BITS = {"nvfp4": 4.5, "fp8": 8.0, "block": 8.002, "mxfp4": 4.25, "int4": 4.5, "mxfp8": 8.25}


def sized(one: dict[str, Any]) -> sizes.Sized:
    return sizes.from_values(one["config"], "it", beside=one.get("beside"))


def weights(found: sizes.Sized) -> int:
    return sum(memory.weights(found.parameters.breakdown, found.stored).values())


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_published_configuration_is_sized_in_its_stored_format(name: str) -> None:
    """Within 1 % of a sum over the tensors of the built model, each by what its file says of it."""
    one = PUBLISHED[name]
    if name in UNKNOWN:
        with pytest.raises(ConfigError, match="has no class for it"):
            sized(one)
        return
    found = sized(one)
    assert memory.footprint(sizes.model(found), Workload(), found.stored, found.stored_kv).total > 0
    assert weights(found) == pytest.approx(independent(one), rel=0.01)


def independent(one: dict[str, Any]) -> float:
    """Bytes, tensor by tensor: what is quantised and not excluded has its scheme's bits, the rest 16."""
    config, beside = one["config"], (one.get("beside") or {}).get("quantization") or {}
    inner = next((config[part] for part in ("text_config", "llm_config") if part in config), {})
    block = config.get("quantization_config") or inner.get("quantization_config") or {}
    same = {"model_type": "deepseek_v3"} if config["model_type"] == "kimi_k2" else {}  # the same layers
    made = build({key: value for key, value in config.items() if key != "quantization_config"} | same)
    tower = made.parameters.breakdown.tower
    return tower * 2 + sum(
        prod(shape) * bits(tensor, shape, block, beside, config) / 8 for tensor, shape in made.shapes.items()
    )


def bits(
    name: str, shape: Any, block: dict[str, Any], beside: dict[str, Any], config: dict[str, Any]
) -> float:
    module = name.removesuffix(".weight").split("layers.")[-1]
    expert = "experts" in name and "shared" not in name
    layers = block.get("quantized_layers") or beside.get("quantized_layers") or {}
    if module == "lm_head" and module in layers:
        return next(bits for key, bits in ALGORITHMS if key in layers[module]["quant_algo"])
    if not (block or beside) or len(shape) < 2 or any(part in name for part in KEPT) or "conv" in name:
        return 16
    if block.get("quant_method") == "mxfp4":
        return BITS["mxfp4"] if expert else 16
    if layers and block.get("quant_method") != "fp8":
        return listed(module, expert, layers)
    left = [*block.get("ignore", []), *beside.get("exclude_modules", [])]
    left += [] if block.get("moe_quant_algo") else block.get("modules_to_not_convert", [])
    if expert and (block.get("moe_quant_algo") == "NVFP4" or config.get("expert_dtype") == "fp4"):
        return BITS["nvfp4"] if block.get("moe_quant_algo") else BITS["mxfp4"]
    if not block.get("moe_quant_algo") and any(excludes(entry, module) for entry in left):
        return 16
    return scheme(block, beside)


KEPT = ("embed", "lm_head", "norm", "router", "mlp.gate.", "e_score", "per_layer", "feed_forward.gate")
KEPT += ("mixer.gate.", "moe.gate", "_bias", ".bias", "hc", "A_log", "dt_bias", "block_sparse_moe.gate")


def scheme(block: dict[str, Any], beside: dict[str, Any]) -> float:
    algorithm = str(block.get("quant_algo") or beside.get("quant_algo") or "")
    if "NVFP4" in algorithm:
        return BITS["nvfp4"]
    if "FP8" in algorithm:
        return BITS["fp8"]
    if block.get("quant_method") == "compressed-tensors":
        return BITS["int4"]
    return BITS["block"] if block.get("weight_block_size") else BITS["fp8"]


def excludes(entry: str, module: str) -> bool:
    """Whether an entry of a list of exclusions means a module, named from its layer on."""
    if entry.startswith(("mtp", "model.visual", "visual")):
        return False
    if entry.startswith("re:"):
        entry = entry.removeprefix("re:").replace(".*", "*").replace("\\.", ".")
    if "(gate|up|gate_up|down)" in entry:  # the dense layers of Kimi-K2.5
        return "mlp." in module and "experts" not in module
    entry = entry.split("layers.")[-1].removeprefix("model.")
    plain = module.replace("block_sparse_moe", "mlp")
    around = f"*{entry}*" if "*" in entry and not entry[0].isdigit() else entry
    return any(fnmatch(plain, pattern) for pattern in (entry, f"{entry}.*", around))


def listed(module: str, expert: bool, layers: dict[str, Any]) -> float:
    """The algorithm of a module that is listed; of its first expert where they are stacked."""
    layer = module.split(".")[0]
    for name, own in layers.items():
        tail = name.split("layers.")[-1]
        same = tail == module or (
            expert and tail.startswith(f"{layer}.") and "experts" in tail and "shared" not in tail
        )
        gate = module.replace("gate_up_proj", "gate_proj").replace("mlp.", "")
        if same or (tail.startswith(f"{layer}.") and tail.endswith(gate.split(".", 1)[-1])):
            return next(bits for key, bits in ALGORITHMS if key in own["quant_algo"])
    return 16


ALGORITHMS = (("MXFP8", BITS["mxfp8"]), ("NVFP4", BITS["nvfp4"]), ("FP8", BITS["fp8"]))


# -- what people brought ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("llama33_70b_fp8_dynamic", 72.7),  # llm-d-benchmark #345
        ("gpt_oss_120b_mxfp4", 65.2),  # its card
        ("gemma_4_26b_half", 27.6),  # Model-Optimizer #467
        ("qwen3_vl_2b", 4.26),  # built whole
        ("minimax_m2_5_fp8", 230.0),  # 228.7 B in blocks, embedding and head in 16 bits
    ],
)
def test_weights_are_those_of_a_log_or_a_card(name: str, gigabytes: float) -> None:
    assert weights(sized(REPORTED[name])) / 1e9 == pytest.approx(gigabytes, rel=0.005)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("mixtral_awq", 4 + 20 / 128),
        ("mixtral_gptq3", 3 + 19 / 128),
        ("mixtral_bnb4", 4 + 8.125 / 64),
        ("mixtral_hqq4", 4.5),
        ("mixtral_torchao", 4.25),
    ],
)
def test_each_scheme_has_its_own_size(name: str, bits: float) -> None:
    """Everything but embedding, head, router and norms of Mixtral-8x7B."""
    wide = 2 * 32_000 * 4096 + 32 * 8 * 4096 + 65 * 4096
    expected = (46_702_792_704 - wide) * bits / 8 + 2 * wide
    assert weights(sized(REPORTED[name])) == pytest.approx(expected, rel=1e-4)


def test_mlx_quantises_the_ends_as_well() -> None:
    found = sized(REPORTED["qwen3_30b_mlx4"])
    assert weights(found) == pytest.approx(30_532_122_624 * 4.5 / 8, rel=1e-3)


def test_the_format_stands_beside_the_config_only() -> None:
    found = sized(REPORTED["deepseek_v31_nvfp4"])
    assert (found.stored.of("experts"), found.stored_kv) == ("nvfp4", "fp8")
    attention = 61 * (
        16 * (7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256) + 4.5 * 128 * 128 * 7168
    )
    assert memory.weights(found.parameters.breakdown, found.stored)["attention"] == pytest.approx(
        attention / 8, rel=1e-3
    )


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("longcat_flash", 560e9, 27.2e9),  # transformers #40730: 256 of 768 experts have no weights
        ("lfm2_8b_a1b", 8.34e9, 1.56e9),
        ("hunyuan_a13b_lists", 80.39e9, 12.75e9),
        ("phi_tiny_moe_remote_code", 3.755e9, 1.158e9),  # without the input table
        ("gemma_4_26b_half", 13.81e9, None),
        ("qwen3_vl_2b", 2_127_532_032, None),
    ],
)
def test_what_is_counted_is_sized(name: str, total: float, active: float | None) -> None:
    found = sized(REPORTED[name])
    assert found.parameters.total == pytest.approx(total, rel=0.002)
    if active is not None:
        counts = found.parameters.active
        assert (
            min(abs(counts.incl_embeddings / active - 1), abs(counts.excl_input_embedding / active - 1))
            < 0.01
        )
    assert memory.footprint(sizes.model(found), Workload(), found.stored).kv_cache > 0


def test_class_defaults_decide_the_cache_of_gemma_3() -> None:
    """The published file leaves them out (unsloth #4757)."""
    found = sized(REPORTED["gemma3_27b"])
    assert sizes.model(found).cache.sequence_bytes(131_072, "bf16") / 2**30 == pytest.approx(10.41, abs=0.01)
    assert any("vocab_size 262208" in note for note in found.notes)


@pytest.mark.parametrize("name", ["minimax_m3_new_type", "deepseek_ocr", "ernie45_vl_lists", "ling_lite_1_5"])
def test_an_unknown_type_is_one_sentence(name: str) -> None:
    with pytest.raises(ConfigError, match="has no class for it") as raised:
        sized(REPORTED[name])
    assert "\n" not in str(raised.value)


def test_a_folder_is_called_what_it_likes(tmp_path: Path) -> None:
    """Half of the experts of Gemma-4-26B-A4B, in a folder that is called after the whole."""
    folder = tmp_path / "gemma-4-26B-A4B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(REPORTED["gemma_4_26b_half"]["config"]))
    found = sizes.from_config(folder)
    assert sizes.model(found).parameters.total == found.parameters.total == 13_808_740_480


@pytest.mark.parametrize(
    ("name", "tokens", "gibibytes"),
    [
        ("deepseek-ai--DeepSeek-V3", 163_840, 10.72),
        ("moonshotai--Kimi-K2.5", 262_144, 17.16),
        ("Qwen--Qwen3-0.6B", 40_960, 4.375),
        ("Qwen--Qwen3.5-27B", 262_144, 16.0),
    ],
)
def test_the_cache_at_full_context(name: str, tokens: int, gibibytes: float) -> None:
    kept = sizes.model(sized(PUBLISHED[name])).cache
    assert kept.sequence_bytes(tokens, "bf16") / 2**30 == pytest.approx(gibibytes, abs=0.01)
