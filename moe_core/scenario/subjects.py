"""Subjects: the models the Architectures and Memory pages look at. Published, rumoured, imported or edited.

No Streamlit here. A subject's numbers say how they were counted: `closed_form`, `meta` (built by
transformers in a process of its own) or `record` (the integers of its file).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from moe_core import registry
from moe_core.errors import ConfigError, short
from moe_core.formats import Format
from moe_core.hf import config as configs
from moe_core.hf import reader, sizes
from moe_core.hf.sizes import Sized
from moe_core.perf import memory
from moe_core.perf.distinct import combinations
from moe_core.perf.edit import edit, split, with_kv
from moe_core.perf.params import Method, ParameterCount, count
from moe_core.perf.twins import Rule, Twin
from moe_core.registry import Record
from moe_core.specs import GQA, Architecture, Precision

Standing = Literal["published", "rumoured", "imported", "edited"]
METHODS: dict[Method, str] = {
    "closed_form": "closed form",
    "meta": "built on the meta device with transformers",
    "record": "the integers of its record",
    "header": "the header of its file",
}
CONVENTIONS = {
    "incl_embeddings": "embeddings included",
    "excl_input_embedding": "input embedding left out",
    "excl_embedding_and_head": "embedding and head left out",
}
TWINS: dict[Rule, str] = {
    "active": "dense, equal active",
    "total": "dense, equal total",
    "sqrt": "dense, √(active × total)",
    "epoch": "dense, Epoch's heuristic",
}
DETAILS = {  # what each convention means, for a tooltip
    "incl_embeddings": "everything a token passes through; the whole embedding table is counted",
    "excl_input_embedding": "without the input table, of which a token reads one row; a tied one is the head",
    "excl_embedding_and_head": "layers, router and norms only",
}


class Subject(NamedTuple):
    """One model. `architecture` None: only its record exists, or what building it told (`built`)."""

    name: str
    standing: Standing
    parameters: ParameterCount
    architecture: Architecture | None
    record: Record | None = None
    notes: tuple[str, ...] = ()
    built: Sized | None = None

    @property
    def routing(self) -> tuple[int, int, int] | None:
        """Routed experts, top-k, shared; None in a dense model."""
        if self.architecture is not None:
            bank = self.architecture.experts
            return (bank.count, bank.top_k, bank.shared) if bank else None
        found = self.record.routing if self.record else None
        if found is not None:
            return found.experts, found.top_k, found.shared
        held = self.built and self.built.built
        return (held.routing[1], held.routing[0], 0) if held and held.routing else None

    @property
    def formats(self) -> tuple[Precision, Format]:
        """The formats that its makers publish its weights in, and want its cache in."""
        own = self.architecture or self.record or self.built
        assert own is not None, "it has numbers"
        return own.stored, own.stored_kv

    def renamed(self, name: str) -> Subject:
        """The same model under another name."""
        arch = self.architecture.model_copy(update={"name": name}) if self.architecture else None
        return self._replace(name=name, architecture=arch)

    @property
    def source(self) -> str:
        """Where its numbers come from, for the tooltip of a badge."""
        how = METHODS[self.parameters.method]
        if self.record is None:
            return f"{self.name}: {how}, from the configuration given here"
        return f"{self.name}: {how}; {self.record.verified.method}; {self.record.sources[0]}"

    @property
    def sets(self) -> int | None:
        """Sets of experts a token can get in one layer, exact, expert groups ignored; None if dense."""
        return combinations(self.routing[0], self.routing[1]) if self.routing else None

    @property
    def reachable(self) -> int | None:
        """The same inside the router's groups."""
        bank = self.architecture.experts if self.architecture else None
        if bank is None:
            return self.sets
        return combinations(bank.count, bank.top_k, bank.router.groups, bank.router.top_groups)


def published(name: str) -> Subject:
    """A registered model, rumours included. Raises ConfigError with close matches."""
    record = registry.get(name)
    standing: Standing = "rumoured" if record.rumoured else "published"
    if record.rumoured:
        known = record.active["incl_embeddings"]
        active = {convention: record.active.get(convention, known) for convention in CONVENTIONS}
        record = record.model_copy(update={"active": active})
    return Subject(
        record.name, standing, registry.parameters(record), record.architecture, record, record.notes
    )


def own(arch: Architecture, standing: Standing, notes: tuple[str, ...] = ()) -> Subject:
    """A model of the user's, counted in closed form."""
    return Subject(arch.name, standing, count(arch), arch, None, notes)


def twin(found: Twin) -> Subject:
    """A dense twin as a model of its own."""
    return own(found.architecture.model_copy(update={"name": TWINS[found.rule]}), "edited", found.caveats)


def model(subject: Subject) -> memory.Model:
    """What the memory functions take. Raises ConfigError where too little is known."""
    if subject.architecture is not None:
        return memory.model(subject.architecture)
    if subject.record is not None:
        return registry.model(subject.record)
    assert subject.built is not None, "it was built, or there would be no numbers"
    return sizes.model(subject.built)


def names(rumours: bool = False) -> tuple[str, ...]:
    """Published models in alphabetical order, and rumours only where they are asked for."""
    return registry.names() + (tuple(record.name for record in registry.rumours()) if rumours else ())


# -- import ----------------------------------------------------------------------------------------


def understand(config: Mapping[str, Any], name: str) -> Subject:
    """A parsed config.json in closed form. Raises Unsupported where only building the model can tell."""
    found = configs.load(config, name)
    return own(found.architecture, "imported", found.notes)


def exactly(name: str, found: Sized) -> Subject:
    """The same as it was built by transformers; the architecture where the closed form counts the same."""
    return Subject(name, "imported", found.parameters, found.architecture, None, found.notes, found)


def parse(text: bytes | str, file: str) -> dict[str, Any]:
    """The JSON object of an upload or a paste. Raises ConfigError, one sentence."""
    found = reader.parse(text, short(file))
    if not found:
        raise ConfigError(f"{short(file)}: is an empty object")
    return found


def name_of(config: Mapping[str, Any], typed: str, file: str) -> str:
    """What to call an import: as typed, or as the config or its file says. At most 40 characters."""
    stem = re.sub(r"\.json$", "", file)
    said = config.get("_name_or_path")
    path = said.rstrip("/").split("/")[-1] if isinstance(said, str) else ""
    kind = config.get("model_type")
    found = typed.strip() or path or ("" if stem == "config" else stem) or kind
    return (short(found) if isinstance(found, str) else "") or "imported"


# -- edit ------------------------------------------------------------------------------------------

KINDS = ("as it is", "mha", "gqa", "mqa", "mla")
FIELDS = {  # what can be edited: its words, least, most
    "experts": ("Experts", 1, 16_384),
    "top_k": ("Experts per token (top-k)", 1, 1_024),
    "shared": ("Shared experts", 0, 64),
    "expert_width": ("Expert width", 1, 262_144),
    "granularity": ("Split each expert m ways", 1, 64),
    "first_dense": ("Dense layers first", 0, 1_000),
    "layers": ("Layers", 1, 1_000),
    "hidden": ("Hidden", 1, 262_144),
    "heads": ("Heads", 1, 4_096),
    "kv_heads": ("KV heads", 1, 4_096),
    "ffn_width": ("Width of dense layers", 0, 1_000_000),
    "vocab": ("Vocabulary", 1, 10_000_000),
}
_SPARSE = ("experts", "top_k", "shared", "expert_width", "granularity", "first_dense")


def values(arch: Architecture) -> dict[str, int]:
    """What an architecture has for each field that can be edited; fields it lacks are left out."""
    bank, spec = arch.experts, arch.attention
    found = {name: getattr(arch, name) for name in ("layers", "hidden", "vocab", "ffn_width")}
    found["heads"] = spec.heads
    if isinstance(spec, GQA):
        found["kv_heads"] = spec.kv_heads
    if bank is not None:
        found |= {"experts": bank.count, "top_k": bank.top_k, "shared": bank.shared}
        found |= {"expert_width": bank.width, "granularity": 1, "first_dense": arch.first_dense}
    return {name: found[name] for name in FIELDS if name in found}


def edited(arch: Architecture, wanted: Mapping[str, int], kind: str = "as it is") -> Architecture:
    """`arch` with what is wanted. Raises ConfigError with field, value and rule."""
    now = values(arch)
    changes = {k: v for k, v in wanted.items() if k in now and v != now[k] and k != "granularity"}
    found = arch
    if kind in KINDS[1:]:
        heads = changes.pop("kv_heads", now.get("kv_heads", 8))
        if "heads" in changes:
            changes_first = {"heads": changes.pop("heads")}
            changes_first |= {"kv_heads": changes_first["heads"]} if "kv_heads" in now else {}
            found = edit(found, changes_first)
        found = with_kv(found, kind, heads)  # type: ignore[arg-type]
    found = edit(found, changes) if changes else found
    ways = wanted.get("granularity", 1)
    return split(found, ways) if ways != 1 and arch.experts is not None else found


def changed(arch: Architecture, wanted: Mapping[str, int], kind: str) -> dict[str, str]:
    """The changes, for the URL: only fields that differ."""
    now = values(arch)
    found = {name: str(wanted[name]) for name in now if wanted.get(name, now[name]) != now[name]}
    return found | ({"kv": kind} if kind in KINDS[1:] else {})


def read_changes(text: str, arch: Architecture) -> tuple[dict[str, int], str, list[str]]:
    """`experts:512,top_k:16,kv:mla` as values and KV kind, and one sentence for what cannot be used."""
    found, kind, problems = values(arch), KINDS[0], []
    for item in text[:400].split(",") if text else []:
        name, _, value = item.partition(":")
        if name == "kv" and value in KINDS[1:]:
            kind = value
        elif name in found and re.fullmatch(r"\d{1,9}", value) and _within(name, int(value)):
            found[name] = int(value)
        else:
            problems.append(f"changes ({short(item)}): must be a field, a colon and a number; it is ignored")
    return found, kind, problems[:3]


def _within(name: str, value: int) -> bool:
    return FIELDS[name][1] <= value <= FIELDS[name][2]
