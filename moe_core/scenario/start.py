"""Start: the command line with which an engine serves a model in a layout, or why it cannot.

Options are those of `data/engines.toml`, which says where each engine documents them. A command is for one
instance; `instances` of it make the layout.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Sequence
from functools import cache as once
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from moe_core import registry
from moe_core.formats import GGUF, Format
from moe_core.perf.fit import HEADROOM
from moe_core.perf.precision import FILES
from moe_core.perf.shard import Parallel
from moe_core.specs import Architecture, Precision, Spec

if TYPE_CHECKING:  # it reads the tables: not for --help
    from moe_core.decide.serving import Serving

DATA = Path(__file__).parent.parent.parent / "data" / "engines.toml"


class Engine(Spec):
    """An engine, its program, the options it documents and where."""

    name: str
    program: str
    source: str
    options: tuple[str, ...]


class Start(NamedTuple):
    """One engine's command; None where it cannot serve the layout, and `why` says the rule."""

    engine: str
    command: str | None
    instances: int = 1
    why: str = ""


class Launch(NamedTuple):
    """What is to be served. sequences: at once, of all groups. host: layers whose experts are on the host."""

    model: Architecture
    parallel: Parallel
    replicas: int
    context: int
    sequences: float
    formats: Precision
    kv: Format
    host: int = 0

    @property
    def words(self) -> str:
        """`2 × (tensor 8)`."""
        return self.parallel.times(self.replicas)

    @property
    def each(self) -> int:
        """Sequences of one group of tensor ranks."""
        return max(ceil(self.sequences / self.replicas / self.parallel.groups), 1)


class _Engines(Spec):
    engine: tuple[Engine, ...]


@once
def engines() -> tuple[Engine, ...]:
    """Every engine of the data file."""
    values = tomllib.loads(DATA.read_text(encoding="utf-8"))
    for one in values["engine"]:
        one["options"] = tuple(one["options"])
    return _Engines.parse({"engine": tuple(values["engine"])}).engine


def starts(plan: Launch) -> tuple[Start, ...]:
    """A command or a reason for each engine."""
    return (_vllm(plan), _sglang(plan), _llama(plan))


def away(arch: Architecture, share: float) -> int:
    """The first layers whose experts must be on the host for so large a share of all of them to be there."""
    many = ceil(share * len(arch.moe_layers))
    return arch.moe_layers[many - 1] + 1 if many else 0


def of(one: Serving) -> Launch:
    """The fastest layout of a model under a question."""
    layout = one.layout
    return Launch(
        *(one.candidate.architecture, layout.parallel, layout.replicas, max(round(one.work.context), 1)),
        *(one.batch, one.formats, one.kv),
    )


def lines(found: Sequence[Start]) -> list[str]:
    """One line an engine, for a terminal."""
    said = []
    for one in found:
        times = f" ({one.instances} instances)" if one.instances > 1 else ""
        said.append(f"{one.engine}{times}: {one.command or 'no: ' + one.why}")
    return said


def model_id(plan: Launch) -> str:
    """Its name on Hugging Face where that is what is stored, else a folder to put it into."""
    arch, form = plan.model, plan.formats.experts or plan.formats.default
    known = registry.name_of(arch)  # a file that is called like a model is not that model
    repository = registry.get(known).hf_id if known else None
    if repository and (plan.formats == arch.stored or _loaded(plan)):
        return repository
    name = re.sub(r"[^\w.-]+", "-", arch.name).strip("-")
    return f"./{name}" if plan.formats == arch.stored else f"./{name}-{form}"


def _forms(formats: Precision) -> set[Format]:
    """Every format that some component has."""
    return {form for form in formats.model_dump().values() if form}


def _loaded(plan: Launch) -> bool:
    """Whether 16 bits are stored, and kept or quantised to 8 while they are loaded."""
    if not _forms(plan.model.stored) <= _WIDE:
        return False
    asked = _forms(plan.formats)
    return asked <= _WIDE or asked == {"fp8"}


_WIDE = {"bf16", "fp16", "fp32"}


def _vllm(plan: Launch) -> Start:
    ways, spread = plan.parallel, plan.parallel.expert > 1
    if why := _unserved(plan):
        return Start("vLLM", None, why=why)
    if spread and ways.expert < ways.tensor:
        why = "its experts are spread over all ranks or over none (--enable-expert-parallel)"
        return Start("vLLM", None, why=why)
    if plan.host:
        return Start("vLLM", None, why="it keeps no single experts in host memory")
    # Data-parallel ranks of a mixture share its experts, so replicas of one are instances of their own.
    apart = plan.model.experts is not None
    said = {"--tensor-parallel-size": ways.tensor, "--pipeline-parallel-size": ways.pipeline}
    said["--data-parallel-size"] = ways.groups if apart else plan.replicas
    options = {name: str(many) for name, many in said.items() if many > 1}
    options |= {"--enable-expert-parallel": ""} if spread else {}
    options |= {"--max-model-len": str(plan.context), "--max-num-seqs": str(plan.each)}
    options |= {"--gpu-memory-utilization": f"{1 - HEADROOM:g}", **_quantised(plan), **_cache(plan, "fp8")}
    return Start("vLLM", _line("vLLM", [model_id(plan)], options), plan.replicas if apart else 1)


def _sglang(plan: Launch) -> Start:
    ways, bank = plan.parallel, plan.model.experts
    if why := _unserved(plan):
        return Start("SGLang", None, why=why)
    if plan.host:
        return Start("SGLang", None, why="experts in host memory take KTransformers beside it (--kt-method)")
    if bank is not None and bank.count % ways.expert:
        why = f"its {bank.count} experts must divide evenly over {ways.expert} ranks (--ep-size)"
        return Start("SGLang", None, why=why)
    apart = ways.groups > 1
    said = {"--tp-size": ways.stage, "--ep-size": ways.expert, "--pp-size": ways.pipeline}
    said["--dp-size"] = ways.groups if apart else plan.replicas
    options = {"--model-path": model_id(plan)}
    options |= {name: str(many) for name, many in said.items() if many > 1}
    options |= {"--enable-dp-attention": ""} if apart else {}
    running = plan.each * ways.groups
    options |= {"--context-length": str(plan.context), "--max-running-requests": str(running)}
    options |= {"--mem-fraction-static": "0.9", **_quantised(plan), **_cache(plan, "fp8_e4m3")}
    return Start("SGLang", _line("SGLang", [], options), plan.replicas if apart else 1)


def _llama(plan: Launch) -> Start:
    ways = plan.parallel
    if ways.expert > 1:
        return Start("llama.cpp", None, why="it has no expert parallelism; tensor or pipeline ways do")
    forms = _forms(plan.formats)  # one that was read has averages beside the blocks they are of
    if (other := sorted(forms - {*GGUF, *_WIDE, "mxfp4"})) and not forms & {*GGUF}:
        return Start("llama.cpp", None, why=f"it reads GGUF, which has no {other[0]}; choose q4_k or q8_0")
    cache = {"bf16": "bf16", "fp16": "f16", "fp32": "f32", "int8": "q8_0", "int4": "q4_0"}.get(
        plan.kv, plan.kv
    )
    if cache not in (*GGUF, "bf16", "f16", "f32"):
        return Start("llama.cpp", None, why=f"its cache has no {plan.kv}; bf16 or q8_0 do")
    split = "row" if ways.tensor > 1 else "layer" if ways.pipeline > 1 else ""
    if ways.tensor > 1 and ways.pipeline > 1:
        return Start(
            "llama.cpp", None, why="it splits over rows or over layers (--split-mode), not over both"
        )
    many = max(ceil(plan.sequences / plan.replicas), 1)
    options = {"--model": plan.model.name.replace(" ", "-") + _file(plan.formats), "--n-gpu-layers": "999"}
    options |= {"--split-mode": split} if split else {}
    options |= {"--n-cpu-moe": str(plan.host)} if plan.host else {}
    options |= {"--ctx-size": str(plan.context * many), "--parallel": str(many)}
    wide = cache in ("bf16", "f16")  # 16 bits are what it takes unless told otherwise
    options |= {} if wide else {"--cache-type-k": cache, "--cache-type-v": cache}
    return Start("llama.cpp", _line("llama.cpp", [], options), plan.replicas)


def _file(formats: Precision) -> str:
    """How the name of a GGUF file in these formats ends: the mixture's, else its largest part's."""
    form = formats.experts or formats.default
    one = form.upper() if "@" not in form else ""
    named = next((name for name, mix in FILES.items() if mix == formats), one)
    return f"-{named}.gguf" if named else ".gguf"


def _unserved(plan: Launch) -> str:
    """Why neither vLLM nor SGLang takes weights or cache; empty where they do."""
    if blocks := sorted(_forms(plan.formats) & {*GGUF}):
        return f"{blocks[0]} is a format of GGUF, which llama.cpp serves"
    if foreign := _foreign(plan):
        return foreign
    taken = plan.kv in ("bf16", "fp16", "fp8")
    return "" if taken else f"its cache is in 16 bits or fp8 (--kv-cache-dtype), not in {plan.kv}"


def _foreign(plan: Launch) -> str:
    """MLX quantises the embedding too, ExLlama gives the head an average of bits; others do neither."""
    formats, said = plan.formats, ""
    if formats != plan.model.stored:
        return said  # a choice: nobody has written it yet
    if formats.of("embedding") not in _WIDE:
        said = f"its embedding is stored in {formats.of('embedding')}, as MLX writes it"
    elif "@" in formats.of("head"):
        said = f"its head is stored in {formats.of('head')}, as ExLlama writes it"
    return f"{said}; a checkpoint of the same model in another scheme is wanted" if said else said


def _quantised(plan: Launch) -> dict[str, str]:
    """A checkpoint says its own format; 16 bits may be quantised to 8 while they are loaded."""
    return {"--quantization": "fp8"} if _forms(plan.formats) == {"fp8"} and _loaded(plan) else {}


def _cache(plan: Launch, eight: str) -> dict[str, str]:
    return {"--kv-cache-dtype": eight} if plan.kv == "fp8" else {}


def _line(engine: str, words: list[str], options: dict[str, str]) -> str:
    """A command that can be pasted into a shell."""
    known = next(one for one in engines() if one.name == engine)
    assert set(options) <= set(known.options), "only what is documented"
    parts = [*words, *(part for name, value in options.items() for part in (name, value) if part)]
    return " ".join((known.program, *map(shlex.quote, parts)))
