"""Answer: a comparison in one sentence: who writes a token fastest, at what cost, and where the time went.

The reason is arithmetic: of all parts of a step, the one that holds most of the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from moe_core import hardware
from moe_core.decide.clock import Reading
from moe_core.decide.serving import Serving
from moe_core.errors import InfeasibleError
from moe_core.report.compare import Cases
from moe_core.report.side import LOOKS, subject
from moe_core.scenario import answer
from moe_core.scenario.resolved import Resolved
from moe_core.silicon.predict import Prediction
from moe_core.units import quantity, significant

TIED = 1.03  # ratios below it are called equal
PARTS = {
    "feed-forward layers": ("ffn", "experts", "shared", "router"),
    "attention": ("attention", "mixer"),
    "output head": ("head",),
    "communication between devices": ("network",),
    "host and small kernels": ("framework",),
}


class Timed(NamedTuple):
    """A scenario that has a time: what it is called, and the model as it is served."""

    name: str
    case: Resolved
    served: Serving

    @property
    def reading(self) -> Reading:
        return self.served.step

    @property
    def devices(self) -> int:
        return self.served.devices

    @property
    def cost(self) -> float | None:
        """Dollars a million tokens written, prompts included; None without a price."""
        return self.served.cost


def sentence(cases: Cases, named: bool = False) -> str:
    """The answer of a comparison, without a full stop. `named`: by name, not by the letter it begins with."""
    found, refused = timed(cases, list(cases) if named else None)
    head, said = "" if named else "Scenario ", _refusals(refused)
    if not found:
        return said or "No scenario of this comparison has a device with published kernel times"
    if len(found) == 1:
        return f"{head}{_alone(found[0])}" + (f"; {said}" if said else "")
    ranked = sorted(found, key=lambda one: one.reading.seconds)
    return _ranked(ranked[0], ranked[-1], len(found), head) + (f"; {said}" if said else "")


def timed(cases: Cases, names: Sequence[str] | None = None) -> tuple[list[Timed], dict[str, str]]:
    """Scenarios that have a time, and why the others have none; by letter unless `names` are given."""
    found: list[Timed] = []
    refused: dict[str, str] = {}
    for (key, case), name in zip(cases.items(), names or hints(cases), strict=True):
        short = key if names else key[:1]
        if not case.timed:
            refused[short] = "has no published kernel times"
            continue
        try:
            found.append(Timed(name, case, answer.required(answer.served(case))))
        except InfeasibleError as error:
            refused[short] = str(error)
    return found, refused


def hints(cases: Cases) -> list[str]:
    """`B (Llama-2-70B)`: the letter, and the first thing in which all scenarios differ."""
    letters = [key[:1] for key in cases]
    for look in (subject, *LOOKS):
        said = [look(case) for case in cases.values()]
        if len(set(said)) == len(said) > 1:
            return [f"{letter} ({words})" for letter, words in zip(letters, said, strict=True)]
    return letters


def _alone(one: Timed) -> str:
    cost = "" if one.cost is None else f", ${significant(one.cost)} for a million tokens"
    where = f"{'one' if one.devices == 1 else f'{one.devices} ×'} {hardware.title(one.case.hardware)}"
    return f"{one.name} writes a token in {quantity(one.reading.seconds, 's')} on {where}{cost}"


def _ranked(fast: Timed, slow: Timed, many: int, head: str) -> str:
    ratio = slow.reading.seconds / fast.reading.seconds
    if ratio < TIED:
        two = f"{head.replace(' ', 's ')}{fast.name} and {slow.name}"
        both = two if many == 2 else f"All {many} scenarios"
        return (
            f"{both} write a token equally fast, in {quantity(fast.reading.seconds, 's')}{_cost(fast, slow)}"
        )
    overlap = fast.reading.upper > slow.reading.lower
    doubt = "; their 80 % intervals overlap" if overlap else ""
    said = f"{head}{fast.name} writes a token {significant(ratio, 2)}× faster than {slow.name}"
    if fast.case.batch != slow.case.batch and "batch" not in fast.name:
        said += f" (batch {fast.case.batch:,} against {slow.case.batch:,})"
    return f"{said}{_cost(fast, slow)}, because {_reason(fast, slow)}{doubt}"


def _cost(fast: Timed, slow: Timed) -> str:
    if fast.cost is None or slow.cost is None:
        return ""
    ratio = fast.cost / slow.cost
    if 1 / TIED < ratio < TIED:
        return " at the same cost"
    return f" at {significant(ratio, 2)}× the cost"


def _reason(fast: Timed, slow: Timed) -> str:
    """The part that holds most of the difference, and why: bytes, memory, arithmetic."""
    own, other = (_parts(answer.step(one.served)) for one in (fast, slow))
    name = max(PARTS, key=lambda part: other[part][0] - own[part][0])
    (quick, few), (long, many) = own[name], other[name]
    verb = "take" if name.endswith("s") and "between" not in name else "takes"
    head = f"its {name} {verb} {quantity(quick, 's')} instead of {quantity(long, 's')}"
    if name in ("communication between devices", "host and small kernels"):
        return head
    read = many / few if few else 1.0
    memory = hardware.get(fast.case.hardware).bandwidth / hardware.get(slow.case.hardware).bandwidth
    if read > 1.2 and read >= memory:
        return f"{head}, each device moving {significant(read, 2)}× fewer bytes"
    if memory > 1.2:
        return f"{head}, from memory {significant(memory, 2)}× as fast"
    return head


def _parts(step: Prediction) -> dict[str, tuple[float, int]]:
    """Seconds and bytes by group."""
    place = {component: name for name, parts in PARTS.items() for component in parts}
    found = {name: (0.0, 0) for name in PARTS}
    for part in step.parts:
        name = place.get(part.component, "attention")
        seconds, moved = found[name]
        found[name] = (seconds + part.seconds, moved + part.bytes)
    return found


def _refusals(refused: dict[str, str]) -> str:
    return "; ".join(f"{letter} {why}" for letter, why in refused.items())
