"""What a quantisation block says: the format of the weights, of single modules, and what is left in 16 bits.

One function a `quant_method`, each after the documentation of its scheme. A value that a function does not
know raises `Unknown`, and whoever asked says so. Bits count scales and zero points; a scale for each row or
tensor, and the order of GPTQ's inputs (32 bits a row), are under 0.1 % and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from moe_core.formats import Format
from moe_core.hf.block import (
    HALF,
    Block,
    Unknown,
    bits_of,
    blocks,
    brief,
    cache,
    cache_or_said,
    flag,
    grouped,
    inside,
    quark_cache,
    strings,
    whole,
)
from moe_core.hf.unread import unread


class ModuleRule(NamedTuple):
    """Modules by name, and their format; None is what the model was trained in."""

    modules: tuple[str, ...]
    form: Format | None


class Scheme(NamedTuple):
    """What a block says. `rules` win over `form`, the first that names a module; `left` over neither.

    whole: the embedding, the router and a head that nobody names are stored so as well.
    kv: the format of the cache, where it is said. said: what to mention.
    """

    form: Format | None
    rules: tuple[ModuleRule, ...] = ()
    left: tuple[str, ...] = ()
    whole: bool = False
    kv: Format | None = None
    said: tuple[str, ...] = ()


def scheme(block: Block) -> Scheme:
    """The scheme of a `quantization_config` or what stands in its place. Raises Unknown."""
    method = method_of(block)
    if method not in SCHEMES:
        raise Unknown(f"quant_method ({brief(method or None)}): is not a known scheme")
    try:
        found = SCHEMES[method](block)
        kv, odd = cache_or_said(cache, block)
    except (TypeError, AttributeError, KeyError, ValueError, OverflowError) as error:
        raise Unknown(f"{method}: a value is of another kind than its scheme says") from error
    said = (*found.said, *odd, *_sparse(block), *unread(block, method))
    return found._replace(kv=kv or found.kv, said=said)


def method_of(block: Block) -> str:
    """Its name in the table. Some write none, and are known by what else they say."""
    method = block.get("quant_method") or block.get("quantization_method")
    if method:
        return brief(method).lower().replace("_", "-")
    if "quant_algo" in block or "quantized_layers" in block:
        return "modelopt"
    if "config_groups" in block:
        return "compressed-tensors"
    if any(block.get(name) is True for name in ("load_in_4bit", "load_in_8bit")):
        return "bitsandbytes"
    return "mlx" if "bits" in block and "group_size" in block and "desc_act" not in block else ""


_LEFT = ["ignore", "modules_to_not_convert", "exclude_modules", "exclude", "skip_modules", "ignored_layers"]


def _left(block: Block) -> tuple[str, ...]:
    """Modules in 16 bits, under the names in use."""
    return tuple(item for name in _LEFT for item in strings(block.get(name)))


def _first_left(left: tuple[str, ...], rules: Iterable[ModuleRule]) -> tuple[ModuleRule, ...]:
    """Rules of a scheme where what is left alone wins over them."""
    return (*((ModuleRule(left, None),) if left else ()), *rules)


def _sparse(block: Block) -> tuple[str, ...]:
    said = block.get("sparsity_config")
    if not isinstance(said, Mapping) or said.get("sparsity_structure") in (None, "", "0:0"):
        return ()
    return (f"sparsity_config ({brief(said.get('sparsity_structure'))}): zeros are sized as they are stored",)


# -- schemes ---------------------------------------------------------------------------------------


def _fp8(block: Block) -> Scheme:
    """DeepSeek, transformers: blocks, or a scale a tensor. ModelOpt gives DeepSeek-V4's experts another."""
    size = block.get("weight_block_size")
    form = "fp8" if size is None else blocks(size)
    experts = block.get("moe_quant_algo")
    if experts is None:
        return Scheme(form, left=_left(block))
    left = strings(block.get("modules_to_not_convert"))
    return Scheme(form, (ModuleRule(("experts",), _algorithm(str(experts))),), left)


def _mxfp4(block: Block) -> Scheme:
    """gpt-oss: the experts alone."""
    return Scheme(None, (ModuleRule(("experts",), "mxfp4"),), _left(block))


def _gptq(block: Block) -> Scheme:
    """A 16-bit scale and a packed zero point a group, symmetric or not (Frantar et al., arXiv 2210.17323)."""
    bits, group = bits_of(block), whole(block, "group_size", 128)
    head = ("lm_head",) if block.get("lm_head") is True else ()
    rules = tuple(_dynamic(block, bits, group))
    form = grouped(bits, group, HALF + bits)
    rules = (*rules, *((ModuleRule(head, form),) if head else ()))
    inside = block.get("modules_in_block_to_quantize")
    if inside is None:
        return Scheme(form, rules, _left(block))
    only = tuple(name for names in inside for name in strings([names] if isinstance(names, str) else names))
    return Scheme(None, _first_left(_left(block), (*rules, ModuleRule(only, form))))


def _dynamic(block: Block, bits: int, group: int) -> Iterable[ModuleRule]:
    """GPTQModel's overrides: `-:pattern` is left alone, `+:pattern` has bits and groups of its own."""
    said = block.get("dynamic")
    for pattern, own in said.items() if isinstance(said, Mapping) else ():
        name = f"re:{str(pattern).removeprefix('+:').removeprefix('-:')}"
        if str(pattern).startswith("-:"):
            yield ModuleRule((name,), None)
        elif isinstance(own, Mapping):
            many = bits_of({"bits": bits, **own})
            yield ModuleRule((name,), grouped(many, whole(own, "group_size", group), HALF + many))


def _awq(block: Block) -> Scheme:
    """A 16-bit scale a group, and a packed zero point where there is one (Lin et al., arXiv 2306.00978)."""
    bits = bits_of({"bits": block.get("w_bit"), **block})
    group = whole({"group_size": block.get("q_group_size", 128), **block}, "group_size")
    return Scheme(grouped(bits, group, HALF + bits * flag(block, "zero_point", True)), left=_left(block))


def _auto_round(block: Block) -> Scheme:
    """Packed as GPTQ or AWQ packs. `extra_config`: modules with bits of their own, 16 is left alone."""
    bits, group = bits_of(block), whole(block, "group_size", 128)
    if str(block.get("data_type", "int")).startswith(("mx_fp", "nv_fp", "fp")):
        form = _algorithm({"mx_fp": "MXFP4", "nv_fp": "NVFP4"}.get(str(block["data_type"])[:5], "?"))
        return Scheme(form, left=_left(block))
    rules = []
    said = block.get("extra_config")
    for name, own in said.items() if isinstance(said, Mapping) else ():
        many = own.get("bits", bits) if isinstance(own, Mapping) else bits
        if isinstance(many, int) and many >= HALF:
            rules.append(ModuleRule((str(name),), None))
        elif isinstance(own, Mapping):
            many = bits_of({"bits": bits, **own})
            form = grouped(many, whole(own, "group_size", group), HALF + many)
            rules.append(ModuleRule((str(name),), form))
    return Scheme(grouped(bits, group, HALF + bits), tuple(rules), _left(block))


def _bitsandbytes(block: Block) -> Scheme:
    """Blocks of 64 with an fp32 maximum, itself in 8 bits where quantised twice (QLoRA, arXiv 2305.14314)."""
    named = block.get("llm_int8_skip_modules")
    left = ("lm_head",) if named is None else strings(named)
    if block.get("load_in_4bit") or block.get("_load_in_4bit"):
        base = str(block.get("bnb_4bit_quant_type", "fp4")).lower()
        if base not in ("nf4", "fp4"):
            raise Unknown(f"bnb_4bit_quant_type ({brief(base)}): must be nf4 or fp4")
        twice = flag(block, "bnb_4bit_use_double_quant", False)
        return Scheme(grouped(4, 64, 8 + 32 / 256 if twice else 32, base[:2]), left=left)
    if block.get("load_in_8bit") or block.get("_load_in_8bit"):
        return Scheme("int8", left=left)
    raise Unknown("load_in_4bit (None): neither 4 nor 8 bits are said")


def _hqq(block: Block) -> Scheme:
    """A 16-bit scale and a 16-bit zero point a group (Badri and Shaji 2023); by module name or for all."""
    inner = block.get("quant_config")
    inner = inner if isinstance(inner, Mapping) else block

    def form(own: Block) -> Format:
        weights = own.get("weight_quant_params")
        weights = weights if isinstance(weights, Mapping) else own
        bits = bits_of({"bits": weights.get("nbits"), **weights})
        group = whole({**weights, "group_size": weights.get("group_size", 64) or -1}, "group_size")
        scales = [_hqq_meta(own.get(f"{name}_quant_params")) for name in ("scale", "zero")]
        return grouped(bits, group, sum(scales))

    if "weight_quant_params" in inner or "nbits" in inner or "bits" in inner:
        return Scheme(form(inner), left=_left(block))
    rules = [ModuleRule((name,), form(own)) for name, own in inner.items() if isinstance(own, Mapping)]
    if not rules:
        raise Unknown("quant_config (None): says no bits")
    return Scheme(None, tuple(rules), _left(block))


def _hqq_meta(said: object) -> float:
    """Bits of a scale or a zero point: 16, or fewer where they are quantised themselves."""
    if not isinstance(said, Mapping):
        return HALF
    return float(bits_of({"bits": said.get("nbits")})) + round(2 * HALF / (said.get("group_size") or 4096), 4)


def _exl(block: Block) -> Scheme:
    """EXL2 and EXL3: an average of bits a weight, scales included, and another for the head."""
    found = []
    for name, default in (("bits", None), ("head_bits", 6)):
        value = block.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 16:
            raise Unknown(f"{name} ({brief(value)}): must be a number from 1 to 16")
        found.append(f"int4@{value:.4g}" if value < 6 else f"int8@{value:.4g}")
    return Scheme(found[0], (ModuleRule(("lm_head",), found[1]),), _left(block))


_TORCHAO: dict[str, Callable[[Block], Format]] = {
    "int4weightonly": lambda own: grouped(4, whole(own, "group_size", 128), 2 * HALF),
    "int8weightonly": lambda _: "int8",
    "int8dynamicactivationint8weight": lambda _: "int8",
    "int8dynamicactivationint4weight": lambda own: _unpacked(whole(own, "group_size", 32)),
    "float8weightonly": lambda _: "fp8",
    "float8dynamicactivationfloat8weight": lambda _: "fp8",
    "float8staticactivationfloat8weight": lambda _: "fp8",
    "float8dynamicactivationint4weight": lambda own: grouped(4, whole(own, "group_size", 128), 2 * HALF),
    "nvfp4dynamicactivationnvfp4weight": lambda _: "nvfp4",
    "nvfp4weightonly": lambda _: "nvfp4",
    "nvfp4inference": lambda _: "nvfp4",
    "mxdynamicactivationmxweight": lambda own: _algorithm("MXFP4" if "4" in str(own) else "MXFP8"),
}


def _unpacked(group: int) -> Format:
    """A byte for each weight of fewer bits, a 16-bit scale and an 8-bit zero point a group."""
    return grouped(8, group, HALF + 8)


def _torchao(block: Block) -> Scheme:
    """A word with keywords (old), or a class with its fields, for all or by module name."""
    said, keywords = block.get("quant_type"), block.get("quant_type_kwargs")
    if isinstance(said, str):
        form = _ao(said, keywords if isinstance(keywords, Mapping) else {})
        return Scheme(form, left=("lm_head", *_left(block)))
    if isinstance(said, Mapping) and isinstance(said.get("default"), Mapping):
        said = said["default"]
    if not isinstance(said, Mapping) or "_type" not in said:
        raise Unknown(f"quant_type ({brief(said)}): is not a known type")
    data = said.get("_data")
    own: Block = data if isinstance(data, Mapping) else {}
    whole = block.get("include_input_output_embeddings") is True
    left = _left(block) if whole else ("lm_head", *_left(block))
    if said["_type"] not in ("ModuleFqnToConfig", "FqnToConfig", "AOPerModuleConfig"):
        return Scheme(_ao(str(said["_type"]), own), left=left, whole=whole)
    named = next((value for value in own.values() if isinstance(value, Mapping)), {})
    forms = {
        name: _ao(str(one["_type"]), one.get("_data") or {}) if isinstance(one, Mapping) else None
        for name, one in named.items()
    }
    rest = forms.pop("_default", None)
    return Scheme(rest, tuple(ModuleRule((name,), form) for name, form in forms.items()), left, whole)


def _ao(word: str, own: Block) -> Format:
    name = word.removesuffix("Config").replace("_", "").lower()
    if name in ("intxweightonly", "uintxweightonly", "int8dynamicactivationintxweight"):
        bits = bits_of({"bits": _digits(str(own.get("weight_dtype", own.get("dtype", "int8"))))})
        inner = own.get("granularity") or own.get("weight_granularity")
        data = inner.get("_data") if isinstance(inner, Mapping) else None
        rows = isinstance(inner, Mapping) and "Axis" in str(inner.get("_type"))
        group = -1 if rows else whole(data if isinstance(data, Mapping) else own, "group_size", 32)
        packed = name[0] == "u" or "opaque" in str(own.get("intx_packing_format", "")).lower()
        return grouped(bits, group, 2 * HALF) if packed else _unpacked(group)
    if name not in _TORCHAO:
        raise Unknown(f"quant_type ({brief(word)}): is not a known type")
    return _TORCHAO[name](own)


def _digits(text: str) -> int | None:
    found = "".join(letter for letter in text if letter.isdigit())
    return int(found) if 0 < len(found) < 3 else None


def _compressed(block: Block) -> Scheme:
    """compressed-tensors (vLLM): groups of targets, each with the arguments of its weights."""
    groups = block.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise Unknown(f"config_groups ({brief(groups)}): names no weights")
    general: Format | None = None
    rules = []
    for group in groups.values():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if not isinstance(weights, Mapping):
            continue  # activations alone
        form = _arguments(weights, str(group.get("format") or block.get("format") or ""))
        targets = strings(group.get("targets")) or ("Linear",)
        targets = tuple("embed_tokens" if target == "Embedding" else target for target in targets)
        if any(target in ("Linear", "re:.*") for target in targets):
            general = form
        else:
            rules.append(ModuleRule(targets, form))
    if general is None and not rules:
        raise Unknown("config_groups: no group has weights")
    return Scheme(general, _first_left(_left(block), rules), _left(block))


def _arguments(weights: Block, packed: str = "") -> Format:
    """`QuantizationArgs` of compressed-tensors: bits, type, strategy, groups."""
    bits, kind = whole(weights, "num_bits"), weights.get("type", "int")
    group, strategy = weights.get("group_size"), weights.get("strategy")
    strategy = strategy or ("group" if group else "tensor")
    many = -1 if strategy in ("tensor", "channel") else whole(weights, "group_size", 128)
    if strategy not in ("tensor", "channel", "group", "tensor_group", "block", "attn_head"):
        raise Unknown(f"strategy ({brief(strategy)}): is not a known one")
    if kind == "float" and bits == 8:
        if strategy == "block":
            return blocks(weights.get("block_structure") or [128, 128])
        return "fp8" if many <= 0 else grouped(8, many, 8 if many == 32 else HALF, "fp")
    if kind == "float" and bits == 4:
        mx = "mx" in packed or many == 32
        return grouped(4, 32 if many <= 0 and mx else 16 if many <= 0 else many, 8, "fp")
    if kind == "int" and 2 <= bits <= 8:
        zero = 0 if weights.get("symmetric", True) else bits
        return grouped(bits, many, HALF + zero)
    raise Unknown(f"weights ({bits} bits of {brief(kind)}): are not a known format")


def _modelopt(block: Block) -> Scheme:
    """NVIDIA ModelOpt: one algorithm, or one by module; excluded modules stay as they are."""
    inner = block.get("quantization")
    inner = inner if isinstance(inner, Mapping) else block
    left = ("lm_head", *_left(inner))
    named = inner.get("quantized_layers")
    if isinstance(named, Mapping) and named:
        rules: dict[Format | None, list[str]] = {}
        for name, own in named.items():
            said = own.get("quant_algo") if isinstance(own, Mapping) else own
            rules.setdefault(_algorithm(str(said), own if isinstance(own, Mapping) else {}), []).append(name)
        found = tuple(ModuleRule(tuple(names), form) for form, names in rules.items())
        return Scheme(None, found, left, kv=cache(inner))
    if isinstance(inner.get("config_groups"), Mapping):
        found_groups = _compressed(inner)
        return found_groups._replace(left=(*found_groups.left, *left))
    said, kv = inner.get("quant_algo"), cache(inner)
    return Scheme(None if said is None and kv else _algorithm(str(said), inner), left=left, kv=kv)


def _algorithm(said: str, own: Block | None = None) -> Format:
    """The weights of an algorithm of ModelOpt."""
    name = said.upper().replace("-", "_")
    group = (own or {}).get("group_size")
    if name in ("W4A16_AWQ", "W4A8_AWQ", "INT4_AWQ", "W4A16"):
        return grouped(4, group if isinstance(group, int) else 128, HALF)
    if name in ("FP8_PB_WO", "FP8_PB_REAL", "FP8_BLOCK_SCALES"):
        return "fp8_block"
    for part, form in (("NVFP4", "nvfp4"), ("MXFP4", "mxfp4"), ("MXFP8", "fp8-g32+8"), ("FP8", "fp8")):
        if part in name:
            return form
    if name in ("W8A16", "W8A8_SQ_PER_CHANNEL", "INT8_SQ", "INT8", "W8A8"):
        return "int8"
    raise Unknown(f"quant_algo ({brief(said)}): is not a known algorithm")


def _quark(block: Block) -> Scheme:
    """AMD Quark: one setting for all, others by layer name, and a list of what is left alone."""

    def form(setting: Block) -> Format:
        weight = setting.get("weight")
        weight = weight[0] if isinstance(weight, list) and weight else weight
        if not isinstance(weight, Mapping):
            raise Unknown(f"weight ({brief(weight)}): must be an object")
        kind, group = str(weight.get("dtype", "")), weight.get("group_size")
        per = weight.get("qscheme") == "per_group" and isinstance(group, int)
        many = group if per and isinstance(group, int) else -1
        if kind.startswith("fp8"):
            return "fp8" if many <= 0 else grouped(8, many, 8, "fp")
        if kind.startswith(("fp4", "fp6")):
            return grouped(int(kind[2]), many if many > 0 else 32, 8, "fp")
        if kind.removeprefix("u") in ("int4", "int8"):
            return grouped(int(kind[-1]), many, HALF if kind[0] == "i" else HALF + int(kind[-1]))
        raise Unknown(f"dtype ({brief(kind)}): is not a known format of Quark")

    named = block.get("layer_quant_config")
    rules = [
        ModuleRule((name,), form(own) if own.get("weight") else None)
        for name, own in (named.items() if isinstance(named, Mapping) else ())
        if isinstance(own, Mapping)
    ]
    found = Scheme(form(inside(block, "global_quant_config")), _first_left(_left(block), rules), _left(block))
    kv, odd = cache_or_said(quark_cache, block)
    return found._replace(kv=kv, said=odd)


def _mlx(block: Block) -> Scheme:
    """MLX: a 16-bit scale and a 16-bit bias a group, embedding, head and router as well; or one by module."""

    def form(own: Block) -> Format:
        mode = own.get("mode", "affine")
        if mode in ("mxfp4", "nvfp4", "mxfp8"):
            return _algorithm(mode)
        if mode != "affine":
            raise Unknown(f"mode ({brief(mode)}): is not a known one of MLX")
        return grouped(bits_of(own), whole(own, "group_size", 64), 2 * HALF)

    rules = [
        ModuleRule((name,), form({**block, **own}) if isinstance(own, Mapping) else None)
        for name, own in block.items()
        if isinstance(own, Mapping) or own is False
    ]
    return Scheme(form(block), tuple(rules), whole=True)


def _aqlm(block: Block) -> Scheme:
    """Additive codebooks: `num_codebooks` codes for each group of weights (arXiv 2401.06118)."""
    bits = whole(block, "nbits_per_codebook") * whole(block, "num_codebooks")
    group = whole(block, "in_group_size") * whole(block, "out_group_size", 1)
    if not 0 < bits <= 8 * group:
        raise Unknown(f"nbits_per_codebook ({bits} bits for {group} weights): is not possible")
    return Scheme(f"int4@{bits / group:.4g}", left=strings(block.get("linear_weights_not_to_quantize")))


def _quanto(block: Block) -> Scheme:
    known = {"float8": "fp8", "int8": "int8", "int4": "int4@4.25", "int2": "int2@2.25"}
    said = block.get("weights")
    if said not in known:
        raise Unknown(f"weights ({brief(said)}): must be one of {', '.join(known)}")
    return Scheme(known[str(said)], left=("lm_head", *_left(block)))


def _all_but_the_head(block: Block, form: Format) -> Scheme:
    return Scheme(form, left=("lm_head", *_left(block)))


def _fp_quant(block: Block) -> Scheme:
    return Scheme(_algorithm(str(block.get("forward_dtype", "nvfp4"))), left=("lm_head", *_left(block)))


def _higgs(block: Block) -> Scheme:
    return Scheme(grouped(bits_of(block), whole(block, "group_size", 256), HALF), left=("lm_head",))


def _bitnet(block: Block) -> Scheme:
    """Four ternary weights in a byte (Ma et al., arXiv 2402.17764)."""
    return Scheme("int2@2", left=("lm_head", *_left(block)))


SCHEMES: dict[str, Callable[[Block], Scheme]] = {
    **{
        "fp8": _fp8,
        "finegrained-fp8": _fp8,
        "fbgemm-fp8": lambda block: _all_but_the_head(block, "fp8"),
        "mxfp4": _mxfp4,
    },
    **{"gptq": _gptq, "gptq-marlin": _gptq, "awq": _awq, "awq-marlin": _awq, "auto-round": _auto_round},
    **{"intel/auto-round": _auto_round, "bitsandbytes": _bitsandbytes, "hqq": _hqq, "exl2": _exl},
    **{"exl3": _exl, "torchao": _torchao, "compressed-tensors": _compressed, "modelopt": _modelopt},
    **{"modelopt-fp4": _modelopt, "modelopt-mixed": _modelopt, "quark": _quark, "mlx": _mlx, "aqlm": _aqlm},
    **{
        "quanto": _quanto,
        "eetq": lambda block: _all_but_the_head(block, "int8"),
        "nvfp4": lambda block: _all_but_the_head(block, "nvfp4"),
        "fp-quant": _fp_quant,
        "higgs": _higgs,
        "bitnet": _bitnet,
    },
}
