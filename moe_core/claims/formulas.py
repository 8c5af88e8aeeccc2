"""Formulas: what a claim may be held against, by name, computed now from the files that ship.

Every quantity keeps its one home (`perf`, `silicon`, `registry`); the functions named here ask it. What has
no home because nothing else needs it, a few lines of arithmetic, is written out in `gates`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from moe_core.claims import gates, sizes, work
from moe_core.claims.subjects import Computed
from moe_core.errors import ConfigError
from moe_core.provenance import Provenance


class Formula(NamedTuple):
    """A function that claims may name, where its quantity lives, and where a reader finds it.

    page, query: a page of the dashboard, its parameters by argument. command: of the command line.
    """

    compute: Callable[..., float | Computed]
    home: str
    kind: Provenance = "modelled"
    page: str = ""
    query: Mapping[str, str] = {}
    command: str = ""


def _family(
    functions: Sequence[Callable[..., float | Computed]],
    home: str,
    page: str = "",
    query: Mapping[str, str] | None = None,
    command: str = "",
) -> dict[str, Formula]:
    return {one.__name__: Formula(one, home, "modelled", page, query or {}, command) for one in functions}


_SUBJECT = {"subject": "model"}
_SCENARIO = {"architecture": "model", "hardware": "hardware", "batch": "batch"}
FORMULAS: dict[str, Formula] = {
    **_family(
        [
            sizes.total,
            sizes.active,
            sizes.active_share,
            sizes.idle_share,
            sizes.total_over_active,
            sizes.part,
            sizes.part_of_active,
            sizes.routed_share,
        ],
        *("moe_core/perf/params.py", "architectures", _SUBJECT, "params --model {model}"),
    ),
    **_family(
        [
            sizes.an_expert,
            sizes.router_of_a_layer,
            sizes.matrices,
            sizes.design,
            sizes.expert_layers,
            sizes.renormalises,
        ],
        *("data/architectures", "architectures", _SUBJECT, "params --model {model}"),
    ),
    **_family(
        [sizes.replicated, sizes.replicated_bytes, sizes.replicated_flops],
        "moe_core/perf/params.py",
        "architectures",
        _SUBJECT,
    ),
    **_family(
        [sizes.mixtures, sizes.spread, sizes.extreme], "data/architectures", "architectures", {}, "models"
    ),
    **_family(
        [sizes.weight_bytes, sizes.bytes_a_parameter, sizes.memory_over_weights, sizes.update_bytes],
        *("moe_core/perf/memory.py", "memory", {"architecture": "model"}, "memory --model {model}"),
    ),
    **_family(
        [sizes.devices_needed],
        *("moe_core/perf/fit.py", "memory", {"architecture": "model", "hardware": "hardware"}),
        command="memory --model {model} --hardware '{hardware}'",
    ),
    **_family(
        [
            work.flops,
            work.flops_ratio,
            work.flops_a_parameter,
            work.flops_growth,
            work.flops_exponent,
            work.flops_of_all,
            work.growth,
        ],
        *("moe_core/perf/step_time.py", "architectures", _SUBJECT),
    ),
    **_family(
        [gates.sets, gates.touched, gates.touched_share, gates.crowding],
        "moe_core/perf/distinct.py",
        "economics",
    ),
    **_family(
        [gates.gate_difference, gates.gate_mass, gates.experts_run, gates.balance_product],
        "moe_core/claims/gates.py",
        "balancing",
    ),
    **_family(
        [work.ridge_tokens], "moe_core/perf/roofline.py", "economics", {"hardware": "hardware"}, "hardware"
    ),
    **_family(
        [work.step_bytes, work.read_share, work.step_ratio, work.reading_over_computing],
        *("moe_core/silicon/predict.py", "economics", _SCENARIO),
    ),
    **_family(
        [work.bandwidth_asked, work.utilisation],
        "moe_core/perf/memory.py",
        "economics",
        {"architecture": "model"},
    ),
    **_family(
        [work.exchange_bytes, work.talks], "moe_core/perf/comm.py", "economics", {"architecture": "model"}
    ),
    **_family([work.banks], "moe_core/perf/step_time.py", "architectures", _SUBJECT),
    **_family([work.epoch], "moe_core/perf/twins.py", "architectures"),
}


def check(name: str, arguments: Mapping[str, Any]) -> None:
    """Raises ConfigError for a formula or an argument that does not exist."""
    if name not in FORMULAS:
        raise ConfigError(f"formula ({name}): must be one of {', '.join(FORMULAS)}")
    try:
        inspect.signature(FORMULAS[name].compute).bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"using ({', '.join(arguments)}): {name} has {error}") from error


def compute(name: str, arguments: Mapping[str, Any]) -> Computed:
    """A formula's number now. Raises ConfigError as `check` does, or for a value that has no sense."""
    check(name, arguments)
    found = FORMULAS[name].compute(**arguments)
    return found if isinstance(found, Computed) else Computed(found)
