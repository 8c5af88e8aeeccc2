"""Side: one scenario of a comparison, as a link writes it. A link holds everything it needs.

A comparison is `a=...&b=...`, each a query of its own: `architecture=Mixtral-8x7B&hardware=H100&batch=8`.
What is left out has the preset's value, or that of the first screen.
A model that is not published travels whole, packed (`own`).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote_plus, urlencode

from moe_core import hardware, inputs, registry
from moe_core.errors import ConfigError
from moe_core.perf.edit import mixture
from moe_core.perf.precision import MIXES, STORED, asked, asked_cache, words
from moe_core.perf.shard import Parallel
from moe_core.registry import Record
from moe_core.report.text import line, many
from moe_core.review import MOST, Case
from moe_core.scenario import origin
from moe_core.scenario import subject as subjects
from moe_core.scenario.link import FIELDS, KNOBS, NAMED, rival, weights, written
from moe_core.scenario.resolved import Aims, Resolved, aims
from moe_core.scenario.spec import (
    ARCHITECTURE,
    AUTO,
    DEFAULTS,
    HARDWARE,
    OLD,
    PRESET,
    WORDS,
    Scenario,
    brings,
    describe,
    nearest_run,
    targets,
)
from moe_core.specs import LEAST, Architecture, Precision

LETTERS = "ABCD"[:MOST]
NONE = "none"  # a target that is not there, where the preset has one
TARGETS = ("latency_ms", "ttft_ms")


def _said(value: object) -> str:
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)


# What a scenario has that says nothing else.
NEW = {name: str(DEFAULTS.get(name, "")) for name in FIELDS} | {
    name: _said(value) for name, value in targets(PRESET).items()
}
_OLD_WORK = {"batch": "8", "context": "4096", "write": "64"}  # of links that older versions made
AIMS = ("preset", "rival", "task", "training", "skill", "budget_usd", "weights")  # what a verdict rests on
SPOKEN = ("architecture", "hardware", "batch", "prompt", "answer")  # what a link always says
_MORE = {"kv": STORED, "tensor": "1", "expert": "1", "capacity": "", "own": "", "name": ""}
_EVERY = (*NAMED, *_MORE)
_LINK = re.compile(r"(?<!\S)(?:https?://[^\s?]+|/[a-z]*)?\?[a-z_]+=\S+")
_MOST_JSON = 200_000  # bytes of an architecture


class Side(NamedTuple):
    """One scenario by name. `parameters`: what the link says, defaults left out."""

    name: str
    parameters: dict[str, str]
    case: Resolved

    def kept(self, note: str = "") -> Case:
        """As a review and the shelf keep it: the URL's parameters in full, the architecture in `resolved`."""
        said = {name: value for name, value in self.parameters.items() if name not in ("own", "name")}
        values = {"name": self.name, "parameters": said, "note": note}
        return Case.parse({**values, "resolved": self.case.model_dump(mode="json")})


def labels(sides: Sequence[Side]) -> dict[str, Resolved]:
    """The scenarios by letter and name: `A Chat`, or what tells it apart: `B Mixtral-8x7B, A100 80GB`."""
    known = zip(LETTERS, sides, strict=False)
    return {f"{letter} {_short(side, sides)}": side.case for letter, side in known}


def called(cases: Mapping[str, Resolved]) -> dict[str, Resolved]:
    """The scenarios of a report: who was given no name is called by the model, and by what tells it apart.

    Where that would be one name for two, each keeps the longer one it had.
    """
    sides = [of_case(_default(name, case), case) for name, case in cases.items()]
    short = [_short(side, sides) for side in sides]
    names = short if len(set(short)) == len(short) else list(cases)
    return dict(zip(names, cases.values(), strict=True))


def _default(name: str, case: Resolved) -> str:
    """The other name that a scenario has unless somebody says otherwise: model and device."""
    said = f"{subject(case)} on {hardware.title(case.hardware)}"
    return default_name(case) if name == line(said, 80) else name


def spoken(text: str) -> str:
    """Words in which every link of the dashboard is what it is a link to; other addresses stay."""
    return _LINK.sub(_spoken, text)


def _spoken(found: re.Match[str]) -> str:
    link, end = found[0].rstrip(".,;)"), found[0][len(found[0].rstrip(".,;)")) :]
    try:
        said = "; ".join(side.name for side in read(link))
    except ConfigError:
        said = link if "://" in link else unquote_plus(unquote_plus(link))
    return said + end


def _short(side: Side, sides: Sequence[Side]) -> str:
    """Its own name; without one the model's, and what differs where several have that model."""
    given = own_name(side)
    if given is not None:
        return given
    name = subject(side.case)
    same = [one.case for one in sides if subject(one.case) == name]
    words = [name]
    for look in LOOKS:
        if len({look(case) for case in same}) > 1:
            words.append(look(side.case))
            same = [case for case in same if look(case) == look(side.case)]
    return ", ".join(words)


def link(sides: Iterable[Side]) -> dict[str, str]:
    """The query of a comparison, by letter."""
    found = zip(LETTERS.lower(), sides, strict=False)
    return {letter: urlencode(_named(side)) for letter, side in found}


def _named(side: Side) -> dict[str, str]:
    return {**({} if own_name(side) is None else {"name": side.name}), **side.parameters}


def own_name(side: Side) -> str | None:
    """The name that somebody gave it; None where it is called by what it is."""
    return None if side.name == default_name(side.case) else side.name


def read(text: str, capacity: int | None = None) -> list[Side]:
    """The scenarios of any link of the dashboard, or of its query alone: one, or up to four of a comparison.

    `capacity`: bytes of the machine that a link calls `this machine`. Raises ConfigError.
    """
    found = inputs.query(text)
    several = {letter: found[letter] for letter in LETTERS.lower() if found.get(letter)}
    if several:
        return [of(_fields(letter, one), capacity) for letter, one in several.items()]
    known = {name: value for name, value in found.items() if name in _EVERY}
    if not known:
        raise ConfigError(f"link ({line(text, 40)}): must be a link of this dashboard, with a scenario in it")
    return [of(known, capacity)]


def _fields(letter: str, text: str) -> dict[str, str]:
    """One scenario's own query. Raises ConfigError where it says nothing."""
    found = dict(parse_qsl(text))
    if not found:
        raise ConfigError(f"scenario {letter} ({line(text, 40)}): must be a query such as architecture=DBRX")
    return found


def of(parameters: Mapping[str, str], capacity: int | None = None) -> Side:
    """A side from its parameters. Raises ConfigError with field, value and rule."""
    unknown = next((name for name in parameters if name not in _EVERY), None)
    if unknown is not None:
        raise ConfigError(f"{line(unknown, 40)}: must be one of {', '.join(_EVERY)}")
    values = _filled(parameters)
    label, arch, record = _subject(values)
    name = {"label": label, "architecture": arch, "record": record}
    limits = {field: _number(field, values[field]) for field in _LIMITS if values[field] not in ("", NONE)}
    own = _model(arch, record)
    case = Resolved.parse(
        {
            **name,
            **_machine(values, capacity),
            **_work(values),
            **limits,
            "precision": _precision(values["precision"]) or own.stored,
            "kv": asked_cache(line(values["kv"], 80)) or own.stored_kv,
            "parallel": Parallel.parse({name: _whole(name, values[name]) for name in ("tensor", "expert")}),
            "devices": None if values["many"] in ("", AUTO) else _whole("many", values["many"]),
        }
    )
    bank = _asked(values, case)
    case = case.model_copy(update={"aims": _aims(values, case, bank)})
    seq = _whole("seq", values["seq"])
    run = nearest_run(bank, values["model"], seq, case.batch, values["precision"])
    case = case.model_copy(update={"run": run, "origin": origin.check(values["load"])})
    given = line(values["name"], 80) or default_name(case)
    said = of_case(given, case, values).parameters
    if "own" in said and not values["own"]:  # a published model with other experts is still called so
        knobs = dict(zip(KNOBS, map(str, bank or ()), strict=False))
        said = {name: value for name, value in said.items() if name != "own"} | knobs
        said["architecture"] = registry.get(values["architecture"]).name
    return Side(given, said, case)


def _filled(parameters: Mapping[str, str]) -> dict[str, str]:
    """With what goes without saying: the preset's work, or that of older versions where a link is theirs."""
    none = dict.fromkeys(TARGETS, NONE)
    values = {**NEW, **none, "architecture": ARCHITECTURE, "hardware": HARDWARE, **_MORE, "preset": PRESET}
    if any(name in OLD for name in parameters):
        return {**values, "edit": "false", **_OLD_WORK, **parameters}
    preset = parameters.get("preset", PRESET)
    if preset not in WORDS["preset"]:
        raise ConfigError(f"preset ({line(preset, 40)}): must be one of {', '.join(WORDS['preset'])}")
    return {**values, **_brought(preset), "edit": "true", **parameters}


def _work(values: Mapping[str, str]) -> dict[str, int]:
    """batch, context, write and prompt."""
    batch = _whole("batch", values["batch"])
    if "context" in values:  # an older link: all of the context but the answer is read
        return {"batch": batch, **{name: _whole(name, values[name]) for name in ("context", "write")}}
    prompt, written = (_whole(name, values[name]) for name in ("prompt", "answer"))
    cached = _whole("cached", values["cached"] or "0", least=0)
    return {"batch": batch, "context": cached + prompt + written, "write": written, "prompt": prompt}


def _asked(values: Mapping[str, str], case: Resolved) -> tuple[int, int, int] | None:
    """Experts, top-k and shared experts as a scenario counts them: by the model's record."""
    known = _bank(case)
    if values["own"] or known is None:
        return known
    name = registry.get(values["architecture"]).name
    edited = values["edit"] == "true"
    experts, top_k, shared = (int(values[knob]) if edited and values[knob] else None for knob in KNOBS)
    return Scenario(name, experts=experts, top_k=top_k, shared=shared).bank


def _aims(values: Mapping[str, str], case: Resolved, bank: tuple[int, int, int] | None) -> Aims | None:
    """What its verdict rests on; None of a model without experts that are known."""
    budget = _number("budget_usd", values["budget_usd"]) if values["budget_usd"] else None
    said = {name: values[name] for name in ("preset", "training", "skill")}
    for name, value in said.items():
        if value not in WORDS[name]:
            raise ConfigError(f"{name} ({line(value, 40)}): must be one of {', '.join(WORDS[name])}")
    if values["task"] not in WORDS["task"]:
        raise ConfigError(f"task ({line(values['task'], 40)}): must be one of {', '.join(WORDS['task'])}")
    asked = Scenario(
        **said,  # type: ignore[arg-type]
        hardware=case.hardware,
        rival=rival(values["rival"] or AUTO),
        weights=weights(values["weights"]),
        budget=budget,
        task=None if values["task"] == AUTO else values["task"],
    )
    if case.architecture is None or case.architecture.experts is None:
        found = aims(asked)
        return found and found.model_copy(update={"dense": None, "rule": None})  # those are of a mixture
    if values["own"]:
        return aims(asked._replace(architecture=case.architecture.name, own=case.architecture))
    knobs: dict[str, Any] = dict(zip(KNOBS, bank or (), strict=False))
    return aims(asked._replace(architecture=registry.get(values["architecture"]).name, **knobs))


def _bank(case: Resolved) -> tuple[int, int, int] | None:
    """Experts, top-k and shared experts; None in a dense model."""
    bank = case.architecture.experts if case.architecture else None
    if bank is not None:
        return bank.count, bank.top_k, bank.shared
    routing = case.model.routing
    return None if routing is None else (routing[1], routing[0], 0)


def of_case(name: str, case: Resolved, parameters: Mapping[str, str] | None = None) -> Side:
    """A side of a resolved scenario: saved, exported, or that of the sidebar."""
    test = {key: (parameters or NEW).get(key, NEW[key]) for key in ("model", "seq")}
    read = case.context - case.write if case.prompt is None else case.prompt
    limits = {key: getattr(case, key) for key in _LIMITS}
    said = {
        **test,
        "load": case.origin,
        **_architecture(case),
        **{"hardware": case.hardware, **_formats(case)},
        **{"batch": str(case.batch), "prompt": str(max(read, 1)), "answer": str(case.write)},
        "cached": str(max(case.context - case.write - read, 0)),
        **{key: "" if value is None else f"{value:g}" for key, value in limits.items()},
        **{key: _said(limits[key]) for key in TARGETS},
        "many": AUTO if case.devices is None else str(case.devices),
        **{"tensor": str(case.parallel.tensor), "expert": str(case.parallel.expert)},
        "capacity": "" if _listed(case) else str(case.capacity),
        **_aimed(case.aims or Aims()),
    }
    base = _silent(said["preset"])
    shown = {key: value for key, value in said.items() if key in SPOKEN or value != base[key]}
    return Side(line(name, 80) or default_name(case), shown, case)


def _aimed(found: Aims) -> dict[str, str]:
    """What a verdict rests on, as a link says it."""
    said = {name: getattr(found, name) for name in ("preset", "rival")}
    said |= {"task": found.task or AUTO, "training": found.team.training, "skill": found.team.skill}
    budget = "" if found.budget is None else f"{found.budget:g}"
    return {**said, "budget_usd": budget, "weights": written(found.weights) or ""}


def _silent(preset: str) -> dict[str, str]:
    """What a link need not say once it has named its preset."""
    return {**NEW, **_MORE, "preset": PRESET, **_brought(preset)}


def _brought(preset: str) -> dict[str, str]:
    """The preset's work, devices and targets."""
    return {name: _said(value) for name, value in (brings(preset) | targets(preset)).items()}


_LIMITS = ("traffic", "latency_ms", "ttft_ms", "price", "link_gbs")


def default_name(case: Resolved) -> str:
    """What a scenario is called unless somebody says otherwise: model, device and batch."""
    load = f"batch {case.batch}" if case.traffic is None else f"{case.traffic:g} requests/s"
    return line(f"{subject(case)} on {hardware.title(case.hardware)}, {load}", 80)


def subject(case: Resolved) -> str:
    """The model's own name."""
    return case.architecture.name if case.architecture is not None else str(case.record)


def formats(case: Resolved) -> str:
    """The format of the weights, and of what differs from it."""
    return words(case.precision)


def ways(case: Resolved, alone: str = "its own fewest") -> str:
    """`8 devices: tensor 8, expert 8`."""
    asked = case.parallel
    if asked.devices == 1:
        return alone if case.devices is None else many(case.devices, "devices")
    parts = [f"{name} {number}" for name, number in asked.model_dump().items() if number > 1]
    return f"{asked.devices} devices: {', '.join(parts)}"


LOOKS: tuple[Callable[[Resolved], str], ...] = (
    lambda case: hardware.title(case.hardware),
    lambda case: f"batch {case.batch:,}" if case.traffic is None else f"{case.traffic:g} requests/s",
    lambda case: f"context {case.context:,}",
    lambda case: f"answer {case.write:,}",
    formats,
    lambda case: f"{case.kv} cache",
    ways,
    lambda case: case.label,
)


# -- one field -------------------------------------------------------------------------------------


def _subject(values: Mapping[str, str]) -> tuple[str, Architecture | None, str | None]:
    """Label, architecture and record, of a packed model or of a published one, edited or not."""
    if values["own"]:
        found: Architecture | None = unpack(values["own"])
        name, record = found.name if found else "", None
        standing = "edited" if name in registry.names() else "as given"
    else:
        known = registry.get(values["architecture"])
        if known.rumoured:
            raise ConfigError(f"architecture ({known.name}): is a rumour; nothing about it can be counted")
        found, name, standing, record = known.architecture, known.name, "as published", known.name
    if values["edit"] == "true" and any(values[knob] for knob in KNOBS):
        return _edited(values, name, found, record)
    return f"{name} {standing}"[:400], found, None if found is not None else record


def _edited(
    values: Mapping[str, str], name: str, found: Architecture | None, record: str | None
) -> tuple[str, Architecture | None, str | None]:
    """With other experts, called by what changed. Raises ConfigError for a model without any."""
    bank = None if found is None else found.experts
    if found is None or bank is None:
        raise ConfigError(f"experts ({values['experts']}): {name} has no experts here that could be changed")
    known = Scenario(name).published if name == record else (bank.count, bank.top_k, bank.shared)
    usual = dict(zip(KNOBS, map(str, known or ()), strict=True))
    asked = [_whole(key, values[key] or usual[key], least=key != "shared") for key in KNOBS]
    if tuple(asked) == known:
        return f"{name} as published"[:400], found, None
    scenario = Scenario(name, experts=asked[0], top_k=asked[1], shared=asked[2])
    if name == record:
        chosen = subjects.subject(scenario)
        made = subjects.architecture(scenario, chosen)
        return subjects.label(scenario, chosen)[:400], made, None
    return f"{name}, {describe(*scenario.bank or (1, 1, 0))}"[:400], mixture(found, *asked), None


def _machine(values: Mapping[str, str], capacity: int | None) -> dict[str, Any]:
    """Device and bytes. A device without a data sheet brings its own capacity."""
    if values["capacity"]:
        name = line(values["hardware"], hardware.LONGEST)
        return {"hardware": name, "capacity": _whole("capacity", values["capacity"])}
    if values["hardware"] == "this machine":
        if capacity is None:
            raise ConfigError("hardware (this machine): must come with capacity, in bytes")
        return {"hardware": values["hardware"], "capacity": capacity}
    device = hardware.get(values["hardware"])
    return {"hardware": device.name, "capacity": device.capacity}


def _whole(name: str, value: str, least: int = 1) -> int:
    if not value.isdecimal() or len(value) > 18 or int(value) < least:
        raise ConfigError(f"{name} ({line(value, 40)}): must be a whole number, at least {least}")
    return int(value)


def _number(name: str, value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = -1.0
    if not LEAST <= found <= 1e6:
        raise ConfigError(f"{name} ({line(value, 40)}): must be a number above zero, at most 1,000,000")
    return found


def _precision(value: str) -> Precision | None:
    """A format, a published mix, or a mix of one's own as JSON; None as stored."""
    return Precision.parse_json(value) if value.startswith("{") else asked(line(value, 200))


def _formats(case: Resolved) -> dict[str, str]:
    """Of weights and cache, as a link says them: what the model is stored in goes without saying."""
    own = _model(case.architecture, case.record)
    precision = AUTO if case.precision == own.stored else _written(case.precision)
    return {"precision": precision, "kv": STORED if case.kv == own.stored_kv else case.kv}


def _model(arch: Architecture | None, record: str | None) -> Architecture | Record:
    """Who knows the formats that a model is stored in."""
    return arch if arch is not None else registry.get(str(record))


def _written(precision: Precision) -> str:
    if precision == Precision(default=precision.default):
        return precision.default
    named = next((name for name, mix in MIXES.items() if mix == precision), None)
    return named or precision.model_dump_json(exclude_defaults=True)


def _architecture(case: Resolved) -> dict[str, str]:
    """Its name if that says it all, else the whole of it."""
    arch = case.architecture
    if arch is None:
        return {"architecture": str(case.record)}
    if registry.name_of(arch) is not None:
        return {"architecture": arch.name}
    return {"architecture": arch.name, "own": pack(arch)}


def _listed(case: Resolved) -> bool:
    """Whether its device's name says this capacity too."""
    with suppress(ConfigError):
        return hardware.get(case.hardware).capacity == case.capacity
    return False


def pack(arch: Architecture) -> str:
    """An architecture as letters that fit into a link."""
    text = json.dumps(arch.model_dump(mode="json", exclude_none=True), separators=(",", ":"))
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def unpack(letters: str) -> Architecture:
    """The architecture again. Somebody else wrote it: its size is bounded, and it is validated."""
    try:
        data = base64.b64decode(letters + "=" * (-len(letters) % 4), altchars=b"-_", validate=True)
        reader = zlib.decompressobj()
        text = reader.decompress(data, _MOST_JSON)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ConfigError(f"own ({line(letters, 20)}): must be a model that this dashboard packed") from error
    if reader.unconsumed_tail or not reader.eof:
        raise ConfigError(f"own ({line(letters, 20)}): must be at most {_MOST_JSON:,} bytes, and whole")
    return Architecture.parse_json(text)
