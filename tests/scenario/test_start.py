"""Start commands: only documented options, and a reason where an engine cannot."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_core import registry
from moe_core.perf.precision import FILES, MIXES
from moe_core.perf.shard import Parallel
from moe_core.scenario.start import Launch, Start, away, engines, starts
from moe_core.specs import Architecture, Precision

TIMED = [record.architecture for record in registry.records() if record.architecture]


def launch(name: str, parallel: Parallel, replicas: int = 1, **said: object) -> dict[str, Start]:
    arch = registry.get(name).architecture
    assert arch is not None
    asked = Launch(arch, parallel, replicas, 8192, 32, arch.stored, arch.stored_kv)._replace(**said)
    return {one.engine: one for one in starts(asked)}


@given(
    st.sampled_from(TIMED),
    st.sampled_from(
        [(1, 1, 1), (8, 1, 1), (1, 8, 1), (8, 64, 1), (8, 8, 2), (1, 1, 3), (2, 1, 3), (8, 2, 1)]
    ),
    st.integers(1, 9),
    st.sampled_from(["stored", *MIXES, "q4_k", "nvfp4"]),
    st.sampled_from(["bf16", "fp8", "int8", "nvfp4"]),
    st.integers(0, 40),
)
def test_every_option_is_documented_and_every_refusal_says_why(
    arch: Architecture, ways: tuple[int, int, int], replicas: int, form: str, kv: str, away: int
) -> None:
    parallel = Parallel(tensor=ways[0], expert=ways[1], pipeline=ways[2])
    formats = MIXES.get(form) or (
        arch.stored if form == "stored" else arch.stored.model_copy(update={"default": form})
    )
    known = {one.name: one for one in engines()}
    for one in starts(Launch(arch, parallel, replicas, 4096, 7.5, formats, kv, away)):
        if one.command is None:
            assert one.why
            continue
        words = shlex.split(one.command)
        assert one.command.startswith(known[one.engine].program)
        options = {word for word in words if word.startswith("--")}
        assert options <= set(known[one.engine].options)
        assert one.instances >= 1


def test_a_mixture_over_experts() -> None:
    found = launch("DeepSeek-V3", Parallel(tensor=8, expert=16))
    assert found["vLLM"].command == (
        "vllm serve deepseek-ai/DeepSeek-V3 --tensor-parallel-size 8 --data-parallel-size 2 "
        "--enable-expert-parallel --max-model-len 8192 --max-num-seqs 16 --gpu-memory-utilization 0.95"
    )
    assert "--tp-size 16 --ep-size 16 --dp-size 2 --enable-dp-attention" in str(found["SGLang"].command)
    assert "expert parallelism" in found["llama.cpp"].why


def test_stages_and_replicas() -> None:
    found = launch("Llama-3.1-70B", Parallel(tensor=2, pipeline=3), 2)
    assert "--tensor-parallel-size 2 --pipeline-parallel-size 3 --data-parallel-size 2" in str(
        found["vLLM"].command
    )
    assert "rows or over layers" in found["llama.cpp"].why


def test_a_format_of_gguf_is_llama_cpps() -> None:
    arch = registry.get("Qwen3-30B-A3B").architecture
    assert arch is not None
    found = launch(
        "Qwen3-30B-A3B", Parallel(), formats=arch.stored.model_copy(update={"default": "q4_k"}), host=20
    )
    assert "GGUF" in found["vLLM"].why
    assert found["llama.cpp"].command == (
        "llama-server --model Qwen3-30B-A3B-Q4_K.gguf --n-gpu-layers 999 --n-cpu-moe 20 "
        "--ctx-size 262144 --parallel 32"
    )


def test_replicas_of_a_mixture_are_instances_as_data_parallel_ranks_would_share_its_experts() -> None:
    found = launch("Qwen3-30B-A3B", Parallel(tensor=2), 3)
    assert "--data-parallel-size" not in str(found["vLLM"].command)
    assert found["vLLM"].instances == 3
    assert "--tp-size 2 --dp-size 3" in str(found["SGLang"].command)
    assert found["SGLang"].instances == 1


def test_sglang_slices_experts_that_are_spread_and_deals_them_evenly() -> None:
    found = launch("Qwen3-30B-A3B", Parallel(tensor=8, expert=2))
    assert "--tp-size 8 --ep-size 2" in str(found["SGLang"].command)
    assert "over none" in found["vLLM"].why
    assert "divide evenly over 6" in launch("DeepSeek-V3", Parallel(expert=6))["SGLang"].why


def test_a_format_of_any_component_or_of_the_cache_that_is_not_served_is_said() -> None:
    arch = registry.get("Qwen3-30B-A3B").architecture
    assert arch is not None
    blocks = launch("Qwen3-30B-A3B", Parallel(), formats=Precision(experts="q4_k"))
    assert "q4_k is a format of GGUF" in blocks["vLLM"].why
    assert "Q4_K.gguf" in str(blocks["llama.cpp"].command)
    four = launch("Qwen3-30B-A3B", Parallel(), formats=Precision(experts="int4"))
    assert "no int4" in four["llama.cpp"].why
    assert "./Qwen3-30B-A3B" in str(four["vLLM"].command)
    cache = launch("Qwen3-30B-A3B", Parallel(), kv="int8")
    assert "not in int8" in cache["vLLM"].why
    assert "--cache-type-k q8_0" in str(cache["llama.cpp"].command)


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        ({"default": "int4-g64+32"}, "its embedding is stored in int4-g64+32, as MLX writes it"),
        (
            {"default": "int4@4.65", "embedding": "bf16", "head": "int8@6", "router": "bf16"},
            "its head is stored in int8@6, as ExLlama writes it",
        ),
    ],
)
def test_a_scheme_that_the_engines_do_not_read_is_said(stored: dict[str, str], why: str) -> None:
    arch = registry.get("Llama-3.1-8B").architecture
    assert arch is not None
    own = arch.model_copy(update={"stored": Precision.parse(stored)})
    for one in starts(Launch(own, Parallel(), 1, 8192, 32, own.stored, own.stored_kv))[:2]:
        assert one.command is None
        assert why in one.why


def test_layers_whose_experts_go_to_the_host_come_after_the_dense_ones() -> None:
    dense_first, every = (registry.get(name).architecture for name in ("DeepSeek-V3", "gpt-oss-120b"))
    assert dense_first is not None
    assert every is not None
    assert [away(dense_first, share) for share in (0, 0.01, 0.5, 1)] == [0, 4, 32, 61]  # 3 dense, 58 not
    assert [away(every, share) for share in (0, 0.68, 1)] == [0, 25, 36]


@pytest.mark.parametrize(("asked", "name"), [("fp8", "Qwen/Qwen3-30B-A3B"), ("int4", "./Qwen3-30B-A3B-int4")])
def test_sixteen_bits_are_quantised_while_they_are_loaded_or_another_checkpoint_is_named(
    asked: str, name: str
) -> None:
    arch = registry.get("Qwen3-30B-A3B").architecture
    assert arch is not None
    command = launch("Qwen3-30B-A3B", Parallel(), formats=arch.stored.model_copy(update={"default": asked}))[
        "vLLM"
    ].command
    assert f"vllm serve {name} " in str(command)
    assert ("--quantization fp8" in str(command)) == (asked == "fp8")


@pytest.mark.parametrize("name", ["Q4_K_M", "IQ4_XS", "Q8_0", "MXFP4_MOE"])
def test_a_file_of_mixed_block_types_is_served_by_llama_cpp_alone(name: str) -> None:
    found = launch("Qwen3-30B-A3B", Parallel(), formats=FILES[name])
    assert f"Qwen3-30B-A3B-{name}.gguf" in str(found["llama.cpp"].command)
    assert found["vLLM"].command is found["SGLang"].command is None
    assert "a format of GGUF, which llama.cpp serves" in found["vLLM"].why


def test_averages_of_a_file_that_was_read_are_gguf_too() -> None:
    averaged = FILES["Q4_K_M"].model_copy(update={"default": "int4@4.83", "attention": "int4@4.61"})
    found = launch("Qwen3-30B-A3B", Parallel(), formats=averaged)
    assert "Qwen3-30B-A3B.gguf" in str(found["llama.cpp"].command)


def test_a_model_that_is_only_called_like_another_is_served_from_a_folder() -> None:
    known = registry.get("Qwen3-30B-A3B").architecture
    assert known is not None
    other = launch("Qwen3-30B-A3B", Parallel(), model=known.model_copy(update={"layers": 30}))
    assert "./Qwen3-30B-A3B" in str(other["vLLM"].command)
