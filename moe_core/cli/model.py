"""The model a command is about: registered, or described by a file of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from moe_core.errors import ConfigError
from moe_core.specs import Architecture

if TYPE_CHECKING:
    from moe_core.hf.sizes import Sized

Name = Annotated[str | None, typer.Option("--model", help="A registered model, any case.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="A config.json, a folder with one, or a .gguf file.")
]
Configs = Annotated[
    list[Path] | None,
    typer.Option("--config", help="A config.json, a folder with one, or a .gguf; several times."),
]


def sized(model: str | None, config: Path | None, method: str = "auto") -> Sized:
    """The model by name or by file. Raises ConfigError where not one of both is given."""
    from moe_core.hf import sizes

    if method not in ("auto", "closed_form", "meta"):
        raise ConfigError(f"method ({method}): must be auto, closed_form or meta")
    chosen = cast(sizes.Method, method)
    if (model is None) == (config is None):
        raise ConfigError("one of --model and --config must be given")
    if model is not None:
        return sizes.registered(model, chosen)
    assert config is not None, "one of both is given"
    return sizes.from_config(config, chosen)


def timed(found: Sized) -> Architecture:
    """Its layers in full, where a step can be timed. Raises ConfigError."""
    if found.architecture is None:
        raise ConfigError(
            f"model ({found.name}): its layers have no closed form here, so no step can be timed; "
            "`memory` sizes it"
        )
    return found.architecture


def described(config: Path) -> tuple[Architecture, tuple[str, ...]]:
    """The model of a file where a step can be timed, and what to mention. Raises ConfigError."""
    found = sized(None, config)
    return timed(found), found.notes
