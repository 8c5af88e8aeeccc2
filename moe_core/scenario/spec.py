"""Scenario: the one question that every page, export and command looks at, with its choices and defaults.

It stands in the URL, whole. The widgets offer the values of `CHOICES`; the URL may hold anything: `read`
gives one sentence for each value that cannot be used. Numbers in the URL are plain. The first screen is a
preset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache as once
from typing import Any, Literal, NamedTuple, get_args

from safetensors import safe_open

from moe_core import grid, inputs, registry
from moe_core.decide import rules
from moe_core.errors import ConfigError, short
from moe_core.scenario import origin
from moe_core.settings import MODELS
from moe_core.specs import EXPERIMENTS, LEAST, Architecture, RunSpec

FORMATS = ("auto", "bf16", "fp8", "fp8_block", "int8", "int4", "nvfp4", "mxfp4", "q4_k", "q8_0", "fp32")
Model = Literal["carved", "grid", "trained"]
Training = Literal["none", "fine-tune", "from scratch"]
Skill = Literal["none", "some", "expert"]

ARCHITECTURE = "Qwen3-30B-A3B"  # fits the default device, so that time and price decide first
HARDWARE = "H100"
PRESET = "chat"
AUTO = "auto"  # as it is published and stored; as few devices as hold it; as the preset says
RULES = ("active", "total", "sqrt", "epoch")  # by which a dense rival is made up
MOST_EXPERTS = 128  # of the test model
POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MOST_DEVICES = 256  # that a picker offers; a command takes more


def lengths(first: int, last: int, field: str) -> tuple[int, ...]:
    """Powers of two, and what the presets ask for between them."""
    asked = {work(name)[field] for name in rules.presets()}
    return tuple(sorted({2**i for i in range(first, last + 1)} | {n for n in asked if n}))


def work(preset: str) -> dict[str, int]:
    """batch, prompt, answer and cached of a preset: tokens read, written, and there before."""
    asked = rules.preset(preset).workload
    context, answer = asked["context"], asked["output"]
    prompt = asked.get("prompt", context - answer)
    return {"batch": asked["batch"], "prompt": prompt, "answer": answer, "cached": context - prompt - answer}


def brings(preset: str) -> dict[str, Any]:
    """Everything that choosing a preset sets: its work, and how many devices where it says so."""
    return {**work(preset), "many": str(rules.preset(preset).devices or AUTO)}


def targets(preset: str) -> dict[str, float | None]:
    """Milliseconds a token and to the first that a preset promises; None where it promises nothing."""
    promised = rules.preset(preset).workload
    return {name: promised.get(name) for name in ("latency_ms", "ttft_ms")}


CHOICES: dict[str, tuple[int, ...]] = {
    "experts": (*POWERS, 512),
    "top_k": (1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64, 128),
    "shared": (0, 1, 2, 3, 4, 6, 8),
    "batch": (*POWERS, 512, 1024),
    "prompt": lengths(4, 20, "prompt"),
    "answer": lengths(0, 13, "answer"),
    "cached": (0, *lengths(9, 19, "cached")),
    "seq": (16, 32, 64, 128, 256, 512, 1024),
}
WORDS: dict[str, tuple[str, ...]] = {
    "preset": tuple(rules.presets()),
    "many": (AUTO, *map(str, range(1, MOST_DEVICES + 1))),
    "precision": FORMATS,
    "model": get_args(Model),
    "task": (AUTO, *rules.tasks()),
    "training": get_args(Training),
    "skill": get_args(Skill),
    "load": origin.WORDS,
}
NUMBERS = ("traffic", "latency_ms", "ttft_ms", "budget_usd", "price", "link_gbs")  # above zero, or left out
DEFAULTS: dict[str, Any] = {
    **{"preset": PRESET, **work(PRESET), "seq": 256},
    **{"precision": AUTO, "many": AUTO, "rival": AUTO, "model": "carved"},
    **{"task": AUTO, "training": "none", "skill": "some", "load": AUTO},
}
OLD = ("context", "write", "edit")  # of links that older versions made
SHOW = "show"  # a chart of any page
# What pages keep in the URL for themselves, and name themselves; and what Streamlit reserves.
PAGE_KEYS = (
    *("router", "layer", "expert", "domain", "sequence", "view"),  # Routing
    *("subject", "look", "convention", "rumours", "changes"),  # Architectures
    *("budget", "mix", "kv_format", "tensor", "expert_ways", "optimizer", "gradients"),  # Memory
    *("timing", "real"),  # Speed
    *("cost", "framework", "beside", "unit"),  # Economics
    *("error", "table", "kind"),  # Accuracy
    *("ledger", "by", "document", "verdict", "how", "topic", "search", "claim"),  # Claims
    *("review", "review_version"),  # Reviews
    *("argue", "knob"),  # Decide
    *("a", "b", "c", "d"),  # Compare
    *("experiment", "balance", "convert", "measure", "top", "over"),  # Balancing, Conversion, Experiments
    *(f"{name}_{lab}" for name in ("measure", "axis", "part", "pick") for lab in EXPERIMENTS),
    *(f"{name}_{arm}" for name in ("arm", "strength") for arm in range(1, 5)),
    SHOW,
    *("embed", "embed_options"),
)


class Scenario(NamedTuple):
    """The question. Names of architecture and hardware are names in the registry.

    experts, top_k, shared: None as published. rival: `auto` (the published one), a rule, or a dense model.
    traffic (requests a second) takes the place of batch. latency_ms, ttft_ms: None the preset's.
    devices: for each model; None its own fewest.
    prompt, answer: tokens read and written for a request; cached: tokens that are there before.
    load: whose load the experts carry (`moe_core.scenario.origin`).
    """

    architecture: str = ARCHITECTURE
    hardware: str = HARDWARE
    experts: int | None = None
    top_k: int | None = None
    shared: int | None = None
    preset: str = PRESET
    rival: str = AUTO
    batch: int = DEFAULTS["batch"]
    traffic: float | None = None
    prompt: int = DEFAULTS["prompt"]
    answer: int = DEFAULTS["answer"]
    cached: int = DEFAULTS["cached"]
    devices: int | None = None
    precision: str = "auto"
    latency_ms: float | None = None
    ttft_ms: float | None = None
    budget: float | None = None
    price: float | None = None
    link_gbs: float | None = None
    task: str | None = None
    training: Training = "none"
    skill: Skill = "some"
    weights: tuple[tuple[str, float], ...] = ()
    model: Model = "carved"
    seq: int = 256
    load: str = AUTO
    text: str | None = None
    own: Architecture | None = None  # imported or edited in this session; None: a published model

    @property
    def targets(self) -> dict[str, float | None]:
        """latency_ms and ttft_ms: its own, else the preset's."""
        own = {"latency_ms": self.latency_ms, "ttft_ms": self.ttft_ms}
        return targets(self.preset) | {name: value for name, value in own.items() if value is not None}

    @property
    def context(self) -> int:
        """Tokens that are kept of a sequence when it ends."""
        return self.cached + self.prompt + self.answer

    @property
    def published(self) -> tuple[int, int, int] | None:
        """Routed experts, top-k and shared experts as the architecture has them; None if nobody knows."""
        if self.own is not None:
            bank = self.own.experts
            return None if bank is None else (bank.count, bank.top_k, bank.shared)
        routing = registry.get(self.architecture).routing
        return None if routing is None else (routing.experts, routing.top_k, routing.shared)

    @property
    def bank(self) -> tuple[int, int, int] | None:
        """The same as the scenario has them."""
        known = self.published
        if known is None:
            return None
        asked = (self.experts, self.top_k, self.shared)
        chosen = tuple(k if a is None else a for a, k in zip(asked, known, strict=True))
        return chosen[0], min(chosen[1], chosen[0]), chosen[2]

    @property
    def edited(self) -> bool:
        """Whether the mixture differs from the published one."""
        return self.bank != self.published

    def mixture(self) -> str:
        """The mixture in words: `16 experts, top-4, 1 shared`."""
        return "" if self.bank is None else describe(*self.bank)

    def run_spec(self, lab: Literal["bench", "topk_sweep"] = "bench") -> RunSpec:
        """What the test model is asked, as near as it goes. Raises ConfigError.

        Formats that it cannot compute in run as auto; batches beyond its own are cut.
        """
        return nearest_run(
            self.bank, self.model, self.seq, self.batch, self.precision, lab=lab, text=self.text or None
        )


def nearest_run(
    bank: tuple[int, int, int] | None,
    model: str,
    seq: int,
    batch: int,
    precision: str,
    **said: Any,
) -> RunSpec:
    """What the test model is asked for such a bank (experts, top-k, shared). Raises ConfigError."""
    experts, top_k, shared = nearest_bank(bank or trained_bank())
    if model == "grid":
        experts, top_k, shared = grid_bank(bank or trained_bank())
    if model == "trained":  # it has experts of its own; top-k may vary
        (experts, _, shared), most = trained_bank(), trained_bank()[0]
        top_k = min(top_k, most)
    return RunSpec.parse(
        {
            **{"model": model, "seq": seq, "experts": experts, "top_k": top_k, "shared": shared, **said},
            "batch": min(batch, POWERS[-1]),
            "dtype": precision if precision in ("fp32", "bf16") else "auto",
        }
    )


@once
def trained_bank() -> tuple[int, int, int]:
    """experts, top-k and shared of the shipped mixture that was trained from scratch, from its file."""
    with safe_open(MODELS / "scale-moe.safetensors", framework="np") as file:
        bank = Architecture.parse_json(file.metadata()["architecture"]).experts
    assert bank is not None, "a mixture has experts"
    return bank.count, bank.top_k, bank.shared


def grid_bank(bank: tuple[int, int, int]) -> tuple[int, int, int]:
    """The nearest mixture that was trained from scratch. Raises ConfigError when none is shipped."""
    member = grid.nearest(bank)
    if member is None:
        raise ConfigError("model (grid): none of its mixtures is there; python data/models/train_grid.py")
    return member.experts, member.top_k, member.shared


def nearest_bank(bank: tuple[int, int, int]) -> tuple[int, int, int]:
    """The mixture that the test model takes in place of one: a power of two of experts, 128 at most.

    Beyond that the share of active experts is kept.
    """
    experts, top_k, shared = bank
    count = min(2 ** round(math.log2(experts)), MOST_EXPERTS)
    kept = top_k if experts <= MOST_EXPERTS else round(top_k * count / experts)
    return count, min(max(kept, 1), count), min(shared, CHOICES["shared"][-1])


def describe(experts: int, top_k: int, shared: int) -> str:
    """`16 experts, top-4, 1 shared`."""
    plural = "expert" if experts == 1 else "experts"
    return f"{experts} {plural}, top-{top_k}" + (f", {shared} shared" if shared else "")


def options(field: str, own: int | None = None) -> tuple[int, ...]:
    """The choices of a field, what the model itself has among them."""
    return CHOICES[field] if own is None else tuple(sorted({*CHOICES[field], own}))


LENGTHS = ("batch", "prompt", "answer", "cached")  # of which a link may have any value in the slider's span


def between(field: str, value: object) -> int | None:
    """A value of a link that is no choice of its slider but lies between them; None otherwise."""
    choices, text = CHOICES[field], str(value)
    if not text.isdecimal() or len(text) > 9 or int(text) in choices:
        return None
    return int(text) if choices[0] < int(text) < choices[-1] else None


def read(parameters: Mapping[str, Sequence[str]], names: Mapping[str, Sequence[str]]) -> list[str]:
    """One sentence for each URL parameter that cannot be used: field, value, rule, and what is used.

    `names`: the values allowed for fields that depend on the installation or the model, the default first.
    """
    found = []
    for field, values in parameters.items():
        if field in (*PAGE_KEYS, *OLD, "weights"):  # whoever owns these reads them
            continue
        value = values[-1] if values else ""
        if len(values) > 1:
            found.append(f"{field} ({short(', '.join(values))}): must be given once; {_last(field, value)}")
        problem = _problem(field, value, names)
        if problem:
            found.append(problem)
    return found[:5]


def _last(field: str, value: str) -> str:
    return f"the last one, {short(value)}, is used"


def _problem(field: str, value: str, names: Mapping[str, Sequence[str]]) -> str | None:
    if field in NUMBERS:
        said = f"{field} ({short(value)}): must be a number above zero; none is used"
        return None if number(value) else said
    if field in names:
        choices, default = sorted(set(names[field]), key=_numeric), next(iter(names[field]), "none")
    elif field in CHOICES:
        choices, default = [str(choice) for choice in CHOICES[field]], str(DEFAULTS[field])
    elif field in WORDS:
        choices, default = list(WORDS[field]), str(DEFAULTS[field])
    else:
        return f"{short(field)} ({short(value)}): must be a setting of the scenario; it is ignored"
    return None if value in choices else unusable(field, value, choices, default)


def unusable(field: str, value: str, choices: Sequence[str], used: str) -> str:
    """`many (3): must be one of auto, 1, 2; auto is used`, with the choices where they are few and short."""
    every = ", ".join(choices)
    if len(choices) == 1:
        rule = every
    elif len(choices) <= 14:
        rule = f"one of {every}"
    elif all(choice.isdecimal() for choice in choices):
        rule = f"a number from {choices[0]} to {choices[-1]}"
    else:
        rule = f"a known {field.replace('_', ' ')}"
    return f"{field} ({short(value)}): must be {rule}; {used} is used"


def _numeric(value: str) -> tuple[int, str]:
    return (int(value), "") if value.isdecimal() else (0, value)


def number(value: str) -> float | None:
    """A number above zero, from a URL; None where it is none."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if LEAST <= found <= 1e8 else None


def clamp_top_k(top_k: int, experts: int) -> tuple[int, str | None]:
    """A top-k that is possible, and the sentence that says so when it is another."""
    if top_k <= experts:
        return top_k, None
    return experts, f"top_k ({top_k}): must be at most experts ({experts}); {experts} is used"


def decode_text(name: str, data: bytes, limit: int = 200_000) -> tuple[str | None, str | None]:
    """The text of an upload, or the sentence that says why there is none."""
    what = f"{short(name)} ({len(data):,} bytes)"
    try:
        text = inputs.text(data, what)
    except ConfigError as error:
        return None, str(error)
    if "\x00" in text:
        return None, f"{what}: must be text; it contains zero bytes"
    return check_text(text, what, limit)


def check_text(text: str, what: str = "text", limit: int = 200_000) -> tuple[str | None, str | None]:
    """The text itself, or why it cannot be run."""
    if not text.strip():
        return None, f"{what}: must hold at least one character that is not a space"
    if len(text) > limit:
        return None, f"{what}: must be at most {limit:,} characters; it has {len(text):,}"
    return text, None
