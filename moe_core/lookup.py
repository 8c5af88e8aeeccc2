"""Finding a record by a name a person typed: any case, with or without hyphens, dots, spaces."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
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
    variants: Sequence[str] = (),
    near: Sequence[str] = (),
) -> T:
    """The value of `table` called `name` or one of its `variants`. Raises ConfigError with close matches.

    near: further forms of `name` that say what is close, and are no match.
    """
    exact = {plain(key): value for key, value in aliases} | {
        plain(key): value for key, value in table.items()
    }
    for wanted in (plain(name), *map(plain, variants)):
        if wanted in exact:
            return exact[wanted]
    close = _close((name, *variants, *near), {plain(key): key for key in table})
    hint = f"close matches: {', '.join(close)}" if close else "none comes close"
    raise ConfigError(f"{kind} ({name[:60]}): is not known; {hint}")


def _close(names: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Up to four names: those that one of `names` begins, else those of its family, the likest first."""
    for wanted in map(plain, names):
        starting = [key for short, key in known.items() if wanted and short.startswith(wanted)]
        if starting:
            return starting[:4]
    bare = names[-1].rpartition("/")[2]
    forms = {plain(name.rpartition("/")[2]) for name in names}
    like = {
        short: max(difflib.SequenceMatcher(None, form, short).ratio() for form in forms) for short in known
    }
    near = [short for short in known if _related(bare, known[short]) or like[short] >= 0.6]
    near.sort(key=lambda short: (not _related(bare, known[short]), -like[short]))
    return [known[short] for short in near[:3]]


def _related(one: str, other: str) -> bool:
    """Whether two names begin with the letters of one family: `DeepSeek-V3` and `DeepSeekMoE-16B`."""
    shorter, longer = sorted((_family(one), _family(other)), key=len)
    return shorter == longer or (len(shorter) >= 3 and longer.startswith(shorter))


def _family(name: str) -> str:
    """The letters that a name begins with: `qwen` of `Qwen3-30B-A3B`."""
    found = re.match(r"[a-z]+", name.lower())
    return found.group() if found else ""


_STAGE = r"instruct|base|chat|it|pt|hf|thinking|preview|latest|v\d(\.\d)?|\d{4}|\d{6}|terminus|exp"
_FORMAT = (
    r"fp8|fp4|bf16|fp16|nvfp4|mxfp4|awq|gptq|int4|int8|w4a16|w8a8|4bit|8bit|gguf|dynamic|block|quantized"
    r"|i?q[1-8]_(?:k_(?:[sml]|xl)|k|0|1|xxs|xs|nl|s|m)"
)
_LAST = re.compile(rf"[-_. ](?:{_STAGE}|{_FORMAT}|bnb|mlx|kv|unsloth)$", re.IGNORECASE)
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
_EDITION = r"\bblackwell (workstation edition)?"
_MEMORY = r"\b(\d+) ?gi?b?\b"


def card(name: str) -> tuple[str, int | None]:
    """(what a card is called without maker, socket and memory, that memory in GB if it is said)."""
    said = re.search(_MEMORY, name.lower().replace("-", " "))
    text = re.sub(
        rf"{_MAKERS}|{_MEMORY}|{_EDITION}|\b(hbm\de?|sxm\d?)\b", " ", name.lower().replace("-", " ")
    )
    return plain(text), int(said.group(1)) if said else None
