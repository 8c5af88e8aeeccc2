"""`reproduce`: the numbers of an export once more, equal or not. Exit code 1 when one is not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from moe_core.cli.output import Json, answer
from moe_core.errors import ConfigError
from moe_core.settings import REFERENCE, Settings
from moe_core.version import code_version, commit


def reproduce(
    manifest: Annotated[Path, typer.Argument(help="A manifest, or any exported file that carries one.")],
    run: Annotated[
        bool, typer.Option("--run", help="Measure again here, and judge by the spread of both.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compute every number of an export again, and say which are equal."""
    from moe_core.report import embed
    from moe_core.report.measured import find
    from moe_core.report.reproduce import reproduce as check

    made, settings = embed.read(manifest), Settings.load()
    if run:
        with tempfile.TemporaryDirectory(dir=settings.data_dir, prefix="again-") as place:
            again = settings.model_copy(update={"data_dir": Path(place)}).prepare()
            checks = check(made, lambda one: _again(again, one.spec), fresh=True)
    else:
        checks = check(made, lambda one: find(one.run_id, settings.runs_dir, REFERENCE))
    counts = {name: sum(one.outcome == name for one in checks) for name in ("equal", "different", "unknown")}
    versions = made.versions
    values = {
        "manifest": str(manifest),
        "title": made.title,
        "written": {"date": made.date, "commit": versions.get("commit"), "code": versions.get("code")},
        "here": {"commit": commit() or "no commit", "code": code_version()},
        **counts,
        "numbers": [one._asdict() for one in checks],
    }
    total = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "equal")
    answer(values, as_json, [*(one.line() for one in checks), f"{made.title}: {total}"])
    if counts["different"] or counts["unknown"]:
        raise typer.Exit(1)


def _again(settings: Settings, asked: dict[str, Any]) -> Any:
    """The bundle of a fresh run of the same question, in a directory of its own."""
    from moe_core.cli.ask import ask, finished
    from moe_core.runs import bundle
    from moe_core.specs import RunSpec

    if str(asked.get("text") or "").startswith("sha256:"):
        raise ConfigError("the run read its user's own text, which an export does not carry")
    return bundle.read(settings.runs_dir / finished(ask(settings, RunSpec.parse(asked))))
