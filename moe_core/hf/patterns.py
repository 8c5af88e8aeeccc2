"""Which modules the entries of a scheme name: exact names, parents, globs, regular expressions.

A regular expression comes from a stranger's file and is matched here, so it must not be able to take for
ever: no repeat around a repeat or a choice, few of them, and a time limit for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from time import monotonic

from moe_core.hf.block import Unknown, brief
from moe_core.hf.modules import plain

_LENGTH, _REPEATS, _SECONDS = 1000, 5, 1.0
_TOKEN = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?(?:[:=!]|<[=!])|[()|]|(?:[*+?]|\{\d*,?\d*\})[?+]?|.", re.S
)
_REPEAT = re.compile(r"[*+?]|\{\d*,?\d*\}")
_SPELT = (  # how patterns may spell what `modules.plain` spells one way
    (".mlp.", (".block_sparse_moe.", ".ffn.", ".feed_forward.", ".moe.")),
    (".self_attn.", (".attn.", ".attention.")),
    (".gate_proj", (".w1", ".gate_up_proj")),
    (".up_proj", (".w3", ".gate_up_proj")),
    (".down_proj", (".w2",)),
    (".shared_experts.", (".shared_expert.",)),
    (".mlp.gate", (".mlp.router",)),
)


class Names:
    """The modules that a list of entries names. Raises Unknown for a pattern that cannot be matched here."""

    def __init__(self, entries: Iterable[str]) -> None:
        self.exact: set[str] = set()
        self.until: float | None = None
        globs, spelt = set[str](), dict[str, re.Pattern[str]]()
        for entry in entries:
            name = re.sub(r"\.experts\.\d+", ".experts.0", plain(entry).rstrip("."))
            name = re.sub(r"(?<!\w)experts\.(?=[a-z])", "experts.0.", name)  # all of a layer in one tensor
            if entry.startswith("re:"):
                spelt[entry] = _compiled(entry[3:])
            elif re.fullmatch(r"[\w.]+", name) and name.startswith("layers."):
                self.exact.add(name)
            elif re.fullmatch(r"[\w.*\-]+", name):
                globs.add(name)
            else:
                spelt[entry] = _compiled(entry)
        self.glob = re.compile("|".join(map(_glob, sorted(globs)))) if globs else None
        self.spelt = list(spelt.values())

    def name(self, module: str) -> bool:
        """Whether an entry names `module` or what is around it."""
        parts = module.split(".")
        if self.exact and any(".".join(parts[:n]) in self.exact for n in range(2, len(parts) + 1)):
            return True
        if self.glob is not None and self._in_time(self.glob).search(module):
            return True
        return bool(self.spelt) and any(
            self._in_time(pattern).match(spelling)
            for spelling in _spellings(module)
            for pattern in self.spelt
        )

    def _in_time(self, pattern: re.Pattern[str]) -> re.Pattern[str]:
        now = monotonic()
        self.until = self.until or now + _SECONDS
        if now > self.until:
            raise Unknown(f"the pattern {brief(pattern.pattern)} and others take too long to match")
        return pattern


def _glob(name: str) -> str:
    if name.count("*") > _REPEATS:
        raise Unknown(f"the pattern {brief(name)}: must have at most {_REPEATS} repeats")
    name = re.sub(r"\*+", "*", name).removeprefix("*.")  # what is around the layers has no name here
    glob = re.escape(name).replace(r"\*", ".*")
    return rf"(?:^|\.){glob}(?:\.|$)" if name[:1] != "*" else rf"^{glob}(?:\.|$)"


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        if len(pattern) > _LENGTH or not _bounded(pattern):
            raise Unknown(f"the pattern {brief(pattern)}: must be short, of few repeats and none in another")
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise Unknown(f"the pattern {brief(pattern)}: is not a regular expression") from error


def _bounded(pattern: str) -> bool:
    """Few repeats, and none of a group that has a repeat or a choice in it."""
    tokens = _TOKEN.findall(pattern)
    repeats, inside, closed = 0, [False], False  # inside: whether each open group has a repeat or a choice
    for token in tokens:
        repeat = bool(_REPEAT.match(token))
        if repeat:
            repeats += 1
            if closed and not token.startswith("?"):
                return False
        if repeat or token == "|":
            inside[-1] = True
        closed = False
        if token.startswith("("):
            inside.append(False)
        elif token == ")" and len(inside) > 1:
            closed = inside.pop()
            inside[-1] = inside[-1] or closed
    return repeats <= _REPEATS


@lru_cache(maxsize=20_000)
def _spellings(module: str) -> tuple[str, ...]:
    """A module's name as other checkpoints of its layout write it."""
    found = [module]
    for own, others in _SPELT:
        found += [name.replace(own, other) for name in found if own in name for other in others]
        if own == ".mlp." and ".mlp.experts.0." in module:
            found.append(module.replace(".mlp.experts.0.", ".experts."))
    found += [name.replace(".experts.0.", ".experts.") for name in found if ".experts.0." in name]
    return tuple(f"{before}{name}" for name in found for before in ("model.", "", "model.language_model."))
