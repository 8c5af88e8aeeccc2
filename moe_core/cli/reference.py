"""Reference: every command and option as Markdown, read from the code that runs them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

HEAD = """# Command line

Written by `python -m docs.make` from the code; a test fails when the two differ.

`python -m moe_core COMMAND`. Answers go to standard output; with `--json` they are one JSON object.
What the user can mend is one sentence on standard error (with `--json` an object `error` on standard
output) and an exit code: 2 for a setting that cannot be used, 3 for what does not fit, 4 for a file or
store that cannot be read or written, 130 when cancelled. `reproduce` ends with 1 when a number differs.
"""


def markdown() -> str:
    """The whole reference, a section a command in the order of the table."""
    from moe_core.cli import COMMANDS, app, called

    group: Any = typer.main.get_command(app)
    parts = [HEAD, *("\n".join(_command(group.commands[called(one)])) for one in COMMANDS)]
    return "\n".join(parts).rstrip() + "\n"


def _command(command: Any) -> Iterator[str]:
    context = command.context_class(command, info_name=command.name)
    shown = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    arguments = [one.name.upper() for one in shown if one.param_type_name == "argument"]
    yield f"## {command.name}\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    yield f"```\npython -m moe_core {' '.join([command.name, *arguments, '[OPTIONS]'])}\n```\n"
    yield "| Option | What it says |\n|---|---|"
    for one in shown:
        name, said = one.get_help_record(context)
        yield f"| `{_cell(name)}` | {_cell(said)} |"
    yield ""


def _cell(text: str) -> str:
    """Text inside a table: one line, no column of its own, nothing that looks like a tag."""
    plain = " ".join(text.split()).replace("|", "\\|")
    return plain.replace("<", "").replace(">", "")
