"""GGUF files as llama.cpp writes them, with settings and tensors but without bytes: the file is sparse."""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

F32, F16, Q8_0, Q4_K, Q5_K, Q6_K, MXFP4 = 0, 1, 8, 12, 13, 14, 39
BLOCKS = {F32: (1, 4), F16: (1, 2), Q8_0: (32, 34), Q4_K: (256, 144), Q5_K: (256, 176)}
BLOCKS |= {Q6_K: (256, 210), MXFP4: (32, 17)}
Shapes = dict[str, tuple[int, ...]]
Tensors = dict[str, tuple[int, tuple[int, ...]]]


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def setting(name: str, value: Any) -> bytes:
    """One setting: a boolean, a whole number, a float, a text, or a list of texts or whole numbers."""
    if isinstance(value, bool):
        return text(name) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return text(name) + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return text(name) + struct.pack("<If", 6, value)
    if isinstance(value, str):
        return text(name) + struct.pack("<I", 8) + text(value)
    if value and isinstance(value[0], str):
        return text(name) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    return text(name) + struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def header(settings: dict[str, Any], tensors: Tensors) -> bytes:
    found = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(settings))
    found += b"".join(setting(name, value) for name, value in settings.items())
    for name, (kind, shape) in tensors.items():
        found += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0)
    return found


def nbytes(tensors: Tensors) -> int:
    """Bytes of the weights, block by block."""
    return sum(prod(shape) // BLOCKS[kind][0] * BLOCKS[kind][1] for kind, shape in tensors.values())


def write(path: Path, settings: dict[str, Any], tensors: Tensors) -> Path:
    found = header(settings, tensors)
    with path.open("wb") as stream:
        stream.write(found)
        stream.truncate(len(found) + nbytes(tensors) + 32)
    return path


def more_bits(layer: int, layers: int) -> bool:
    """The layers to which `_M` gives more bits (llama-quant.cpp, use_more_bits)."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def k_medium(base: int, layers: int) -> Callable[[str, tuple[int, ...]], int]:
    """Q4_K_M and Q5_K_M: the type of a tensor by its name (llama-quant.cpp, llama_tensor_get_type_impl)."""

    def kind(name: str, shape: tuple[int, ...]) -> int:
        if len(shape) == 1 or "norm" in name or "ffn_gate_inp" in name:
            return F32
        if name == "output.weight":
            return Q6_K
        if any(part in name for part in ("attn_v.", "attn_v_b.", "ffn_down")):
            return Q6_K if more_bits(int(name.split(".")[1]), layers) else base
        return base

    return kind


def llama(hidden: int, layers: int, heads: int, keys: int, head: int, width: int, vocab: int) -> Shapes:
    """The matrices of a Llama, the row first."""
    found: Shapes = {"token_embd.weight": (hidden, vocab), "output.weight": (hidden, vocab)}
    found["output_norm.weight"] = (hidden,)
    for layer in range(layers):
        own = {
            **{"attn_norm": (hidden,), "ffn_norm": (hidden,), "attn_q": (hidden, heads * head)},
            **{"attn_k": (hidden, keys * head), "attn_v": (hidden, keys * head)},
            **{"attn_output": (heads * head, hidden), "ffn_gate": (hidden, width)},
            **{"ffn_up": (hidden, width), "ffn_down": (width, hidden)},
        }
        found |= {f"blk.{layer}.{name}.weight": shape for name, shape in own.items()}
    return found


def with_experts(dense: Shapes, layers: range, experts: int, width: int, hidden: int) -> Shapes:
    """The same with experts in the place of some feed-forwards."""
    gone = {f"blk.{layer}.ffn_{name}.weight" for layer in layers for name in ("gate", "up", "down")}
    found = {name: shape for name, shape in dense.items() if name not in gone}
    for layer in layers:
        found |= {
            f"blk.{layer}.ffn_gate_inp.weight": (hidden, experts),
            f"blk.{layer}.ffn_gate_exps.weight": (hidden, width, experts),
            f"blk.{layer}.ffn_up_exps.weight": (hidden, width, experts),
            f"blk.{layer}.ffn_down_exps.weight": (width, hidden, experts),
        }
    return found


def typed(shapes: Shapes, kind: Callable[[str, tuple[int, ...]], int]) -> Tensors:
    return {name: (kind(name, shape), shape) for name, shape in shapes.items()}


def llama_8b() -> tuple[dict[str, Any], Tensors]:
    """Llama-3.1-8B in Q4_K_M."""
    settings = {
        "general.architecture": "llama",
        "general.type": "model",
        "llama.block_count": 32,
        "llama.context_length": 131072,
        "llama.embedding_length": 4096,
        "llama.feed_forward_length": 14336,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 8,
        "llama.rope.freq_base": 500000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.tokens": ["a", "b"],
        "tokenizer.ggml.token_type": [1] * 2000,
    }
    shapes = llama(4096, 32, 32, 8, 128, 14336, 128256)
    return settings, typed(shapes, k_medium(Q4_K, 32)) | {"rope_freqs.weight": (F32, (64,))}


def qwen3_30b() -> tuple[dict[str, Any], Tensors]:
    """Qwen3-30B-A3B in Q5_K_M."""
    settings = {
        "general.architecture": "qwen3moe",
        "qwen3moe.block_count": 48,
        "qwen3moe.context_length": 40960,
        "qwen3moe.embedding_length": 2048,
        "qwen3moe.feed_forward_length": 6144,
        "qwen3moe.attention.head_count": 32,
        "qwen3moe.attention.head_count_kv": 4,
        "qwen3moe.attention.key_length": 128,
        "qwen3moe.attention.value_length": 128,
        "qwen3moe.expert_count": 128,
        "qwen3moe.expert_used_count": 8,
        "qwen3moe.expert_feed_forward_length": 768,
        "qwen3moe.rope.freq_base": 1e6,
        "qwen3moe.attention.layer_norm_rms_epsilon": 1e-6,
    }
    shapes = with_experts(llama(2048, 48, 32, 4, 128, 6144, 151936), range(48), 128, 768, 2048)
    for layer in range(48):
        shapes |= {f"blk.{layer}.attn_{one}_norm.weight": (128,) for one in "qk"}
    return settings, typed(shapes, k_medium(Q5_K, 48))


def deepseek_v3() -> tuple[dict[str, Any], Tensors]:
    """DeepSeek-V3 in Q4_K_M, with the latent split as files since 2025 have it."""
    settings = {
        "general.architecture": "deepseek2",
        "deepseek2.block_count": 61,
        "deepseek2.context_length": 163840,
        "deepseek2.embedding_length": 7168,
        "deepseek2.feed_forward_length": 18432,
        "deepseek2.attention.head_count": 128,
        "deepseek2.attention.head_count_kv": 1,
        "deepseek2.attention.q_lora_rank": 1536,
        "deepseek2.attention.kv_lora_rank": 512,
        "deepseek2.attention.key_length": 576,
        "deepseek2.attention.value_length": 512,
        "deepseek2.attention.key_length_mla": 192,
        "deepseek2.attention.value_length_mla": 128,
        "deepseek2.rope.dimension_count": 64,
        "deepseek2.leading_dense_block_count": 3,
        "deepseek2.expert_count": 256,
        "deepseek2.expert_used_count": 8,
        "deepseek2.expert_shared_count": 1,
        "deepseek2.expert_feed_forward_length": 2048,
        "deepseek2.expert_weights_scale": 2.5,
        "deepseek2.expert_weights_norm": True,
        "deepseek2.expert_gating_func": 2,
        "deepseek2.expert_group_count": 8,
        "deepseek2.expert_group_used_count": 4,
        "deepseek2.rope.freq_base": 10000.0,
        "deepseek2.attention.layer_norm_rms_epsilon": 1e-6,
    }
    dense = llama(7168, 61, 1, 1, 1, 18432, 129280)
    shapes = with_experts(dense, range(3, 61), 256, 2048, 7168)
    shapes = {name: shape for name, shape in shapes.items() if not name.endswith(ORDINARY)}
    for layer in range(61):
        own: Shapes = {
            **{"attn_q_a": (7168, 1536), "attn_q_a_norm": (1536,), "attn_q_b": (1536, 128 * 192)},
            **{"attn_kv_a_mqa": (7168, 576), "attn_kv_a_norm": (512,), "attn_k_b": (128, 512, 128)},
            **{"attn_v_b": (512, 128, 128), "attn_output": (128 * 128, 7168)},
        }
        if layer >= 3:
            own |= {f"ffn_{one}_shexp": (7168, 2048) for one in ("gate", "up")}
            own |= {"ffn_down_shexp": (2048, 7168)}
            shapes[f"blk.{layer}.exp_probs_b.bias"] = (256,)
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in own.items()}

    def kind(name: str, shape: tuple[int, ...]) -> int:
        return Q8_0 if "attn_k_b" in name else k_medium(Q4_K, 61)(name, shape)

    return settings, typed(shapes, kind)


ORDINARY = tuple(f"attn_{one}.weight" for one in ("q", "k", "v", "output"))
