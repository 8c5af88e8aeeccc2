"""What is taken from the package: files, columns under our names, and the order of rows. SQL text only.

Units: seconds, bytes, counts. Sizes of an expert bank are those of the whole layer; tp slices each
expert, ep deals them out. Attention heads are those of one device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from moe_core.silicon.systems import SYSTEMS

COUNT = "SELECT (SELECT count(*) FROM everything), (SELECT count(*) FROM points)"

_OLD = {"vllm": "0.14.0", "sglang": "0.5.10"}  # the newest that exist for the A100
_NEW = {"vllm": "0.24.0", "sglang": "0.5.14"}
_NCCL = {"a100_sxm": "2.27.3", "l40s": "2.27.3"}
_ALL_REDUCE = {"l40s": {"vllm": "0.22.0", "sglang": "0.5.14"}}
_DEEPEP = ("h100_sxm", "h200_sxm", "b200_sxm")

_FORMATS = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "int4_wo": "int4",
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_mxfp8": "mxfp4_a8",
}


class Table(NamedTuple):
    """One of our tables: key columns by their SQL, values by their SQL, and the two rates checked.

    `flops` and `bytes` are lower bounds of what a point must multiply and read; "0" is not checked.
    """

    keys: Mapping[str, str]
    values: Mapping[str, str]
    flops: str = "0"
    bytes: str = "0"


class SourceFile(NamedTuple):
    """One file of the package."""

    table: str
    system: str
    framework: str
    version: str
    path: str
    extra: tuple[tuple[str, str], ...] = ()


def _format(column: str) -> str:
    cases = " ".join(f"WHEN '{theirs}' THEN '{ours}'" for theirs, ours in _FORMATS.items())
    return f"CASE {column} {cases} ELSE {column} END"


_SECONDS = {"seconds": "latency / 1e3"}
_SHAPE = {"heads": "num_heads::SMALLINT", "kv_heads": "num_key_value_heads::SMALLINT"}
_ATTENTION = {
    "dtype": _format("attn_dtype"),
    "kv_dtype": _format("kv_cache_dtype"),
    **_SHAPE,
    "head_dim": "head_dim::SMALLINT",
    "window": "window_size::INTEGER",
    "batch": "batch_size::SMALLINT",
}
_PAIRS = '(CASE WHEN "window" = 0 THEN isl / 2.0 ELSE least(isl / 2.0, "window" / 2.0) END)'
_BYTES = "(CASE kv_dtype WHEN 'fp8' THEN 1 ELSE 2 END)"
_DEPTH = '(CASE WHEN "window" = 0 THEN past ELSE least(past, "window") END)'
_WIDTH = "(CASE dtype WHEN 'bf16' THEN 2.0 WHEN 'nvfp4' THEN 0.5 ELSE 1.0 END)"
_PEAKS = "(CASE dtype WHEN 'bf16' THEN 1.0 WHEN 'nvfp4' THEN 4.0 ELSE 2.0 END)"

TABLES: dict[str, Table] = {
    "moe": Table(
        {
            "dtype": _format("moe_dtype"),
            "hidden": "hidden_size::INTEGER",
            "inter": "inter_size::INTEGER",
            "experts": "num_experts::SMALLINT",
            "top_k": "topk::SMALLINT",
            "tp": "moe_tp_size::SMALLINT",
            "ep": "moe_ep_size::SMALLINT",
            "distribution": "distribution",
            "tokens": "num_tokens::INTEGER",
        },
        _SECONDS,
    ),
    "gemm": Table(
        {
            "dtype": _format("gemm_dtype"),
            "n": "n::INTEGER",
            "k": "k::INTEGER",
            "m": "m::INTEGER",
        },
        _SECONDS,
        flops=f"2.0 * m * n * k / {_PEAKS}",
        bytes=f"1.0 * n * k * {_WIDTH}",
    ),
    "attention_context": Table(
        {**_ATTENTION, "isl": "isl::INTEGER"},
        _SECONDS,
        flops=f"4.0 * batch * heads * isl * {_PAIRS} * head_dim / {_PEAKS}",
    ),
    "attention_generation": Table(
        {**_ATTENTION, "past": "step::INTEGER"},
        _SECONDS,
        bytes=f"2.0 * batch * kv_heads * {_DEPTH} * head_dim * {_BYTES}",
    ),
    "mla": Table(
        {
            "part": "part",
            "dtype": _format("gemm_type"),
            "kv_dtype": _format("kv_cache_dtype"),
            "heads": "num_heads::SMALLINT",
            "batch": "batch_size::SMALLINT",
            "isl": "isl::INTEGER",
            "past": "step::INTEGER",
        },
        _SECONDS,
    ),
    "collective": Table(
        {
            "op": "op",
            "dtype": _format("dtype"),
            "mode": "mode",
            "ranks": "num_gpus::SMALLINT",
            "bytes": "message_size * width",
        },
        _SECONDS,
    ),
    "deepep": Table(
        {
            "mode": "mode",
            "nodes": "node_num::SMALLINT",
            "ranks": "ranks::SMALLINT",
            "hidden": "hidden_size::INTEGER",
            "experts": "num_experts::SMALLINT",
            "top_k": "top_k::SMALLINT",
            "sms": "sms::SMALLINT",
            "tokens": "tokens::INTEGER",
        },
        {"dispatch": "dispatch_us / 1e6", "combine": "combine_us / 1e6"},
    ),
    "linear_attention": Table(
        {
            "phase": "phase",
            "op": "CASE WHEN kernel_source LIKE 'causal_conv%' THEN 'convolution' ELSE 'state' END",
            "key_heads": "num_k_heads::SMALLINT",
            "value_heads": "num_v_heads::SMALLINT",
            "key_dim": "head_k_dim::SMALLINT",
            "value_dim": "head_v_dim::SMALLINT",
            "batch": "batch_size::SMALLINT",
            "seq": "seq_len::INTEGER",
        },
        _SECONDS,
    ),
}


def sources(table: str) -> Iterator[SourceFile]:
    """The files of one table, system by system, framework by framework."""
    for system in SYSTEMS:
        yield from _files(table, system)


def _files(table: str, system: str) -> Iterator[SourceFile]:
    versions = _OLD if system == "a100_sxm" else _NEW
    for framework, version in versions.items():
        for folder, file, extra in _FILES.get(table, {}).get(framework, ()):
            if _exists(folder, file, system, framework):
                path = f"{system}/{folder}/{framework}/{version}/{file}.parquet"
                yield SourceFile(table, system, framework, version, path, extra)
    if table == "collective":
        yield from _collectives(system, versions)
    if table == "deepep" and system in _DEEPEP:
        yield from _exchanges(system)


def _collectives(system: str, versions: Mapping[str, str]) -> Iterator[SourceFile]:
    nccl = _NCCL.get(system, "2.29.2")
    half = (("op", "op_name"), ("dtype", "nccl_dtype"), ("mode", "'nccl'"))
    width = (("width", "CASE nccl_dtype WHEN 'half' THEN 2 ELSE 1 END"),)
    path = f"{system}/comm/nccl/{nccl}/nccl_perf.parquet"
    yield SourceFile("collective", system, "nccl", nccl, path, half + width)
    graph = "CASE WHEN kernel_source LIKE '%graph%' THEN 'graph' ELSE 'eager' END"
    own = (("op", "op_name"), ("dtype", "allreduce_dtype"), ("mode", graph), ("width", "2"))
    for framework, version in {**versions, **_ALL_REDUCE.get(system, {})}.items():
        path = f"{system}/comm/{framework}/{version}/custom_allreduce_perf.parquet"
        yield SourceFile("collective", system, framework, version, path, own)


def _exchanges(system: str) -> Iterator[SourceFile]:
    """DeepEP. Times of `old` are averages over several nodes of eight, of `new` within one."""
    low = (
        *(("mode", "'low_latency'"), ("ranks", "8 * node_num"), ("sms", "0")),
        *(("tokens", "num_token"), ("top_k", "num_topk")),
        *(("dispatch_us", "dispatch_avg_t_us"), ("combine_us", "combine_avg_t_us")),
    )
    normal = (
        *(("mode", "'normal'"), ("ranks", "8 * node_num"), ("sms", "dispatch_sms")),
        *(("tokens", "num_token"), ("top_k", "num_topk")),
        ("dispatch_us", "dispatch_transmit_us + dispatch_notify_us"),
        ("combine_us", "combine_transmit_us + combine_notify_us"),
    )
    for version in ("0.5.6.post2", "0.5.12"):
        if system == "b200_sxm" and version == "0.5.6.post2":
            continue
        for file, extra in (("wideep_deepep_ll_perf", low), ("wideep_deepep_normal_perf", normal)):
            path = f"{system}/comm/sglang/{version}/{file}.parquet"
            yield SourceFile("deepep", system, "sglang", version, path, extra)
    path = f"{system}/comm/vllm/0.24.0/moe_a2a_perf.parquet"
    times = (
        *(("mode", "comm_backend"), ("ranks", "ep_size"), ("top_k", "topk"), ("tokens", "num_tokens")),
        *(("dispatch_us", "dispatch_us"), ("combine_us", "combine_us")),
    )
    yield SourceFile("deepep", system, "vllm", "0.24.0", path, times)


_Files = dict[str, dict[str, tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]]]
_MODULE = (("part", "'module'"),)
_KERNEL = (("part", "'kernel'"), ("gemm_type", "mla_dtype"))
_FILES: _Files = {
    "moe": {name: (("moe", "moe_perf", ()),) for name in _NEW},
    "gemm": {name: (("gemm", "gemm_perf", ()),) for name in _NEW},
    "attention_context": {name: (("attention", "context_attention_perf", ()),) for name in _NEW},
    "attention_generation": {name: (("attention", "generation_attention_perf", ()),) for name in _NEW},
    "linear_attention": {name: (("linear_attention", "gdn_perf", ()),) for name in _NEW},
    "mla": {
        "vllm": (
            ("mla", "mla_context_module_perf", _MODULE),
            ("mla", "mla_generation_module_perf", _MODULE),
        ),
        "sglang": (("mla", "context_mla_perf", _KERNEL), ("mla", "generation_mla_perf", _KERNEL)),
    },
}


def _exists(folder: str, file: str, system: str, framework: str) -> bool:
    """What was not measured: MLA on the A100; linear attention of vLLM there."""
    return not (
        system == "a100_sxm" and (folder == "mla" or (folder, framework) == ("linear_attention", "vllm"))
    )


def describe(path: Path) -> str:
    """SQL: the columns of a file."""
    return f"DESCRIBE SELECT * FROM read_parquet('{path}')"


def points(source: SourceFile, path: Path, columns: set[str]) -> str:
    """SQL: tables `everything` and `points` of one file, under our names, one row a point."""
    table = TABLES[source.table]
    given = dict(source.extra)
    if "window_size" not in columns and source.table.startswith("attention"):
        given["window_size"] = "0"
    computed = ", ".join(f"{sql} AS {name}" for name, sql in given.items() if name != sql)
    raw = f"read_parquet('{path}')"
    if source.table == "deepep" and source.framework == "vllm":
        raw = _pivoted(path)
    fresh = f"SELECT *{', ' if computed else ''}{computed} FROM {raw}"
    keys = ", ".join(f'{sql} AS "{name}"' for name, sql in table.keys.items())
    names = ", ".join(f'"{name}"' for name in table.keys)
    inner = ", ".join(f"{sql} AS {name}" for name, sql in table.values.items())
    medians = ", ".join(f"median({name}) AS {name}" for name in table.values)
    total = " + ".join(table.values)
    least = ", ".join(f"arg_min({name}, {total}) AS {name}" for name in table.values)
    return (
        f"CREATE TABLE everything AS SELECT {keys}, kernel_source AS kernel, {inner} FROM ({fresh});"
        f"CREATE TABLE points AS WITH once AS (SELECT {names}, kernel, {medians} FROM everything"
        f" GROUP BY {names}, kernel ORDER BY {names}, kernel)"
        f" SELECT {names}, arg_min(kernel, {total}) AS kernel, {least} FROM once GROUP BY {names}"
    )


def within_roof(source: SourceFile, limits: Mapping[str, float]) -> str:
    """SQL: drop the points that beat the data sheet."""
    table = TABLES[source.table]
    time = " + ".join(table.values)
    return (
        f"DELETE FROM points WHERE {table.flops} > {limits['flops']} * ({time})"
        f" OR {table.bytes} > {limits['bytes']} * ({time})"
    )


def ordered(source: SourceFile) -> str:
    """SQL: the rows as they are stored, sorted by shape so that they compress and can be skipped."""
    table = TABLES[source.table]
    keys = ", ".join(f'"{name}"' for name in table.keys)
    values = ", ".join(f"{name}::FLOAT AS {name}" for name in table.values)
    where = f"'{source.system}' AS system, '{source.framework}' AS framework, '{source.version}' AS version"
    return f"SELECT {where}, kernel, {keys}, {values} FROM points ORDER BY {keys}"


def _pivoted(path: Path) -> str:
    """Dispatch and combine of one exchange in one row."""
    keys = "comm_backend, kernel_source, ep_size, node_num, hidden_size, topk, num_experts, num_tokens, sms"
    times = ", ".join(
        f"max(CASE phase WHEN '{phase}' THEN latency END) AS {phase}_us" for phase in ("dispatch", "combine")
    )
    return f"(SELECT {keys}, {times} FROM read_parquet('{path}') GROUP BY {keys})"


def samples(path: Path) -> str:
    """SQL: the end-to-end rows. Paths of other people's machines are cut down to the file's name."""
    whole = (
        *(
            "isl",
            "osl",
            "batch_size",
            "tp_size",
            "pp_size",
            "attention_dp_size",
            "moe_tp_size",
            "moe_ep_size",
        ),
        *(f"{phase}_{name}" for phase in ("prefill", "decode") for name in _PHASE),
    )
    numbers = ", ".join(f"{name}::INTEGER AS {name.removesuffix('_size')}" for name in whole)
    texts = "backend_version AS version, model_path AS model, system, precision, mode"
    quant = f"{_format('gemm_quant_mode')} AS gemm_dtype, {_format('moe_quant_mode')} AS moe_dtype"
    origin = "regexp_replace(silicon_data_source, 'source_file=/.*/', 'source_file=')"
    return (
        f"SELECT id, backend AS framework, {texts}, {quant}, {numbers},"
        f" silicon_ttft_ms / 1e3 AS ttft, silicon_tpot_ms / 1e3 AS tpot, {origin} AS origin"
        f" FROM read_csv('{path}') ORDER BY model, system, framework, mode, isl, osl, tp, batch, id"
    )


_PHASE = (
    "batch_size",
    "num_workers",
    "tp_size",
    "pp_size",
    "attention_dp_size",
    "moe_tp_size",
    "moe_ep_size",
)
