"""The command line. One file a group of commands; a new command is one row in `COMMANDS`.

Commands raise the errors of `moe_core.errors` and print through `cli.output`; this file alone turns
errors into sentences and exit codes. Nothing heavy is imported until a command needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

from moe_core.cli.ask import run
from moe_core.cli.calibrate import calibrate
from moe_core.cli.claims import claims
from moe_core.cli.compare import compare
from moe_core.cli.decide import decide
from moe_core.cli.export import export
from moe_core.cli.facts import hardware, memory, models, params
from moe_core.cli.health import doctor
from moe_core.cli.history import ingest, runs
from moe_core.cli.lab import lab
from moe_core.cli.layer import layer
from moe_core.cli.output import EXIT_CODES, explain
from moe_core.cli.predict import accuracy, predict
from moe_core.cli.reproduce import reproduce
from moe_core.cli.service import serve, worker
from moe_core.cli.trace import import_trace
from moe_core.errors import ConfigError, MoEScopeError

PROGRAM = "python -m moe_core"
COMMANDS: tuple[Callable[..., None], ...] = (
    *(run, runs, calibrate, ingest, serve, worker, doctor),
    *(params, memory, models, hardware),
    *(predict, layer, accuracy),
    *(lab, claims),
    import_trace,
    *(decide, compare),
    *(export, reproduce),
)


def called(command: Callable[..., None]) -> str:
    """The word by which a command is called: `import-trace`."""
    return command.__name__.replace("_", "-")


app = typer.Typer(
    help="Dense or mixture of experts? Real forward passes, recorded: the dashboard's engine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _command in COMMANDS:
    app.command()(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What the user can mend is one sentence, never a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        code = typer.main.get_command(app).main(words, prog_name=PROGRAM, standalone_mode=False)
    except MoEScopeError as error:
        return explain(error, as_json)
    except ValidationError as error:  # a number that some part of the answer does not take
        return explain(ConfigError.from_validation(error), as_json)
    except TyperException as error:
        return _misused(error, as_json)
    except BrokenPipeError:  # `... | head`: whoever read us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _misused(error: TyperException, as_json: bool) -> int:
    """An option that does not exist or has no sense. Without any command, help was asked for."""
    message = error.format_message()
    if not as_json and type(error).__name__ == "NoArgsIsHelpError":
        print(message, file=sys.stderr)
        return EXIT_CODES[ConfigError]
    return explain(ConfigError(message[:1].lower() + message[1:].rstrip(".")), as_json)
