"""Scenario: the one question every page looks at, as it stands in the URL. No Streamlit here.

The widgets offer the values of `CHOICES`; the URL may hold anything. `read` turns it into a scenario
and one sentence for each value that could not be used. Numbers in the URL are plain integers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from moe_core.specs import Architecture, RunSpec

Precision = Literal["auto", "fp32", "bf16", "fp8", "int4"]
Model = Literal["carved", "trained"]

POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CHOICES: dict[str, tuple[int, ...]] = {
    "experts": POWERS[:8],
    "top_k": (1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64, 128),
    "shared": (0, 1, 2, 3, 4, 6, 8),
    "batch": POWERS,
    "seq": (16, 32, 64, 128, 256, 512, 1024),
    "context": tuple(2**i for i in range(9, 21)),
    "write": tuple(2**i for i in range(0, 11)),
}
DEFAULTS: dict[str, Any] = {
    "model": "carved",
    "experts": 16,
    "top_k": 4,
    "shared": 1,
    "batch": 8,
    "seq": 256,
    "context": 4096,
    "write": 64,
    "precision": "auto",
    "edit": "false",
}
WORDS: dict[str, tuple[str, ...]] = {
    "precision": get_args(Precision),
    "model": get_args(Model),
    "edit": ("false", "true"),
}
# What pages keep in the URL for themselves, and what Streamlit reserves.
PAGE_KEYS = (
    *("layer", "expert", "domain", "sequence", "view"),  # Routing
    *("look", "convention", "rumours", "changes"),  # Architectures
    *("budget", "mix", "kv_format", "tensor", "expert_ways", "optimizer", "gradients"),  # Memory
    *("timing", "real"),  # Speed
    *("cost", "framework", "beside", "unit"),  # Economics
    *("error", "table", "kind"),  # Accuracy
    *("review", "review_version"),  # Reviews
    *("preset", "rival", "many", "argue", "knob", "task", "training", "skill"),  # Decide
    *("a", "b", "c", "d"),  # Compare
    *("embed", "embed_options"),
)


class Scenario(NamedTuple):
    """The question. Names of architecture and hardware are names in the registry."""

    architecture: str
    hardware: str
    model: Model = "carved"
    experts: int = 16
    top_k: int = 4
    shared: int = 1
    batch: int = 8
    seq: int = 256
    context: int = 4096
    write: int = 64
    precision: Precision = "auto"
    edit: bool = False  # the full size takes the scale model's mixture too
    text: str | None = None
    own: Architecture | None = None  # imported or edited in this session; None: a published model

    def run_spec(self, lab: Literal["bench", "topk_sweep"] = "bench") -> RunSpec:
        """What the scale model is asked. Raises ConfigError; formats it cannot compute in run as auto."""
        dtype = self.precision if self.precision in ("fp32", "bf16") else "auto"
        sizes = {name: getattr(self, name) for name in ("experts", "top_k", "shared", "batch", "seq")}
        return RunSpec.parse(
            {"lab": lab, "model": self.model, **sizes, "dtype": dtype, "text": self.text or None}
        )

    def mixture(self) -> str:
        """The mixture in words: `16 experts, top-4, 1 shared`."""
        return describe(self.experts, self.top_k, self.shared)


def describe(experts: int, top_k: int, shared: int) -> str:
    """`16 experts, top-4, 1 shared`."""
    plural = "expert" if experts == 1 else "experts"
    return f"{experts} {plural}, top-{top_k}" + (f", {shared} shared" if shared else "")


def nearest(field: str, value: int) -> int:
    """The choice of `field` closest to `value`; of two, the larger."""
    return min(CHOICES[field], key=lambda choice: (abs(choice - value), -choice))


def read(parameters: Mapping[str, Sequence[str]], names: Mapping[str, Sequence[str]]) -> list[str]:
    """One sentence for each URL parameter that cannot be used: field, value, rule, and what is used.

    `names`: the values allowed for `architecture` and `hardware`, the first is the default.
    """
    found = []
    for field, values in parameters.items():
        if field in PAGE_KEYS:
            continue
        value = values[-1] if values else ""
        if len(values) > 1:
            found.append(f"{field} ({shorten(', '.join(values))}): must be given once; {_last(field, value)}")
        problem = _problem(field, value, names)
        if problem:
            found.append(problem)
    return found[:5]


def _last(field: str, value: str) -> str:
    return f"the last one, {shorten(value)}, is used"


def _problem(field: str, value: str, names: Mapping[str, Sequence[str]]) -> str | None:
    if field in CHOICES:
        choices: Sequence[str] = [str(choice) for choice in CHOICES[field]]
        default = str(DEFAULTS[field])
    elif field in WORDS:
        choices, default = WORDS[field], str(DEFAULTS[field])
    elif field in names:
        choices, default = names[field], names[field][0] if names[field] else "none"
    else:
        return f"{shorten(field)} ({shorten(value)}): must be a setting of the scenario; it is ignored"
    if value in choices:
        return None
    rule = "one of " + ", ".join(choices) if len(choices) <= 14 else f"a known {field}"
    return f"{field} ({shorten(value)}): must be {rule}; {default} is used"


def shorten(value: str) -> str:
    """At most 40 characters of somebody else's text, control characters out."""
    text = re.sub(r"[\x00-\x1f\x7f]", " ", value)
    return text if len(text) <= 40 else text[:37] + "..."


def clamp_top_k(top_k: int, experts: int) -> tuple[int, str | None]:
    """A top-k that is possible, and the sentence that says so when it is another."""
    if top_k <= experts:
        return top_k, None
    return experts, f"top_k ({top_k}): must be at most experts ({experts}); {experts} is used"


def decode_text(name: str, data: bytes, limit: int = 200_000) -> tuple[str | None, str | None]:
    """The text of an upload, or the sentence that says why there is none."""
    what = f"{shorten(name)} ({len(data):,} bytes)"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return None, f"{what}: must be text in UTF-8; byte {error.start:,} is not"
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
