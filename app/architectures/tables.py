"""Tables: models as rows, components and facts side by side, and the address of a source."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from app.figure import percent
from moe_core.errors import ConfigError
from moe_core.scenario.subjects import CONVENTIONS, METHODS, Subject, model
from moe_core.specs import MLA, Architecture


def table(subjects: list[Subject]) -> pd.DataFrame:
    """One row a model, for the catalogue and the landscape."""
    return pd.DataFrame([_row(subject) for subject in subjects])


def _row(subject: Subject) -> dict[str, Any]:
    record, routing, counted = subject.record, subject.routing, subject.parameters
    experts, top_k, shared = routing or (None, None, None)
    return {
        "name": subject.name,
        "kind": "mixture" if routing or counted.breakdown.experts else "dense",
        "total": counted.total,
        "active": counted.active.incl_embeddings,
        **counted.active._asdict(),
        "experts": experts,
        "top_k": top_k,
        "shared": shared,
        "attention": record.attention if record else attention_kind(subject.architecture),
        "released": record.released if record else "",
        "year": int(record.released[:4]) if record else None,
        "standing": subject.standing,
        "method": METHODS[counted.method],
        "published": record.published.total if record else "",
        "source": record.sources[0] if record else "",
        "link": f"https://huggingface.co/{record.hf_id}" if record and record.hf_id else None,
    }


def attention_kind(arch: Architecture | None) -> str:
    """MHA, GQA, MQA or MLA."""
    if arch is None:
        return "unknown"
    spec = arch.attention
    if isinstance(spec, MLA):
        return "MLA"
    return "MHA" if spec.kv_heads == spec.heads else "MQA" if spec.kv_heads == 1 else "GQA"


def parts(subjects: list[Subject]) -> pd.DataFrame:
    """name, component, parameters, and how many of them one token passes through."""
    rows = []
    for subject in subjects:
        counted = subject.parameters
        idle = counted.idle
        for component, size in counted.breakdown._asdict().items():
            used = size - idle if component == "experts" else size
            rows.append(
                {"name": subject.name, "component": component, "parameters": size, "active": max(used, 0)}
            )
    return pd.DataFrame(rows)


def side_by_side(chosen: list[Subject]) -> pd.DataFrame:
    """A column a model, exact integers, a dash where a model has nothing of the kind."""
    return pd.DataFrame({one.name: _facts(one) for one in chosen}).rename_axis("fact")


def _facts(one: Subject) -> dict[str, str]:
    counted, arch, routing = one.parameters, one.architecture, one.routing
    facts = {"total": f"{counted.total:,}"}
    facts |= {f"active, {CONVENTIONS[n]}": f"{size:,}" for n, size in counted.active._asdict().items()}
    facts["active of total"] = percent(counted.active.incl_embeddings / counted.total)
    experts, top_k, shared = routing or (None, None, None)
    facts["experts, top-k, shared"] = f"{experts}, {top_k}, {shared}" if routing else "-"
    facts["sets of experts"] = f"{one.sets:,}" if one.sets else "-"
    facts["attention"] = one.record.attention if one.record else attention_kind(arch)
    if arch is not None:
        facts["layers, hidden"] = f"{arch.layers}, {arch.hidden:,}"
        facts["expert width"] = f"{arch.experts.width:,}" if arch.experts else "-"
        facts["vocabulary"] = f"{arch.vocab:,}"
    facts["KV cache a token, bf16"] = _cache_words(one)
    facts["released"] = one.record.released if one.record else "-"
    facts["counted by"] = METHODS[counted.method]
    return facts


def _cache_words(one: Subject) -> str:
    try:
        return f"{model(one).cache.token_bytes('bf16'):,} bytes"
    except ConfigError:
        return "-"


_GITHUB = re.compile(r"^github:([\w.-]+/[\w.-]+)(?:@([0-9a-f]{7,40}) ([\w./-]+))?")


_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def link(source: str) -> str | None:
    """The address of a source in our own data: a file at a commit on GitHub, a paper on arXiv."""
    if found := _GITHUB.match(source):
        repository, commit, path = found.groups()
        return f"https://github.com/{repository}" + (f"/blob/{commit}/{path}" if commit else "")
    if found := _ARXIV.search(source):
        return f"https://arxiv.org/abs/{found.group(1)}"
    return None
