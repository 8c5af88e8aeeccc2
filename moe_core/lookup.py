"""Finding a record by a name a person typed: any case, with or without hyphens, dots, spaces."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeVar

from moe_core.errors import ConfigError

T = TypeVar("T")


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """`name` reduced to what people agree on: lower case, letters, digits and the slash of an owner."""
    return re.sub(r"[^a-z0-9/]", "", name.lower())


def find(
    kind: str,
    name: str,
    table: Mapping[str, T],
    aliases: Iterable[tuple[str, T]] = (),
    variants: Iterable[str] = (),
) -> T:
    """The value of `table` called `name` or one of its `variants`. Raises ConfigError with close matches."""
    exact = {plain(key): value for key, value in aliases} | {
        plain(key): value for key, value in table.items()
    }
    for wanted in (plain(name), *map(plain, variants)):
        if wanted in exact:
            return exact[wanted]
    close = _close(plain(name), {plain(key): key for key in table})
    hint = f"close matches: {', '.join(close)}" if close else "none comes close"
    raise ConfigError(f"{kind} ({name[:60]}): is not known; {hint}")


def _close(wanted: str, known: Mapping[str, str]) -> list[str]:
    """Up to four names: those it begins, else those of its family first, the likest of them first."""
    starting = [key for short, key in known.items() if wanted and short.startswith(wanted)]
    if starting:
        return starting[:4]
    bare = wanted.rpartition("/")[2]
    like = {short: difflib.SequenceMatcher(None, bare, short).ratio() for short in known}
    near = [short for short in known if _family(short) == _family(bare) or like[short] >= 0.6]
    near.sort(key=lambda short: (_family(short) != _family(bare), -like[short]))
    return [known[short] for short in near[:3]]


def _family(short: str) -> str:
    """The letters that a name begins with: `qwen` of `qwen330ba3b`."""
    found = re.match(r"[a-z]+", short)
    return found.group() if found else ""


_STAGE = r"instruct|base|chat|it|pt|hf|thinking|preview|latest|v\d(\.\d)?|\d{4}|\d{6}|terminus|exp"
_FORMAT = (
    r"fp8|fp4|bf16|fp16|nvfp4|mxfp4|awq|gptq|int4|int8|w4a16|w8a8|4bit|8bit|gguf|dynamic|block|quantized"
)
_LAST = re.compile(rf"[-_. ](?:{_STAGE}|{_FORMAT})$", re.IGNORECASE)
_STORED = re.compile(rf"[-_. ]({_FORMAT})(?=$|[-_. ])", re.IGNORECASE)


def releases(name: str) -> tuple[str, ...]:
    """What a model may be called once owner, training stage, date and stored format are left out."""
    found = [name, name.rpartition("/")[2]]
    while (shorter := _LAST.sub("", found[-1])) != found[-1]:
        found.append(shorter)
    return tuple(found[1:])


def stored_as(name: str) -> str | None:
    """The stored format that a name speaks of: `FP8` of `Qwen3-8B-FP8`."""
    found = _STORED.search(name)
    return found.group(1) if found else None


_MAKERS = r"\b(nvidia|amd|apple|intel|google|geforce|radeon|instinct|tesla|tensor core|gpu|graphics)\b"
_MEMORY = r"\b(\d+) ?gi?b\b"


def card(name: str) -> tuple[str, int | None]:
    """(what a card is called without maker, socket and memory, that memory in GB if it is said)."""
    said = re.search(_MEMORY, name.lower().replace("-", " "))
    text = re.sub(rf"{_MAKERS}|{_MEMORY}|\b(hbm\de?|sxm\d?)\b", " ", name.lower().replace("-", " "))
    return plain(text), int(said.group(1)) if said else None
