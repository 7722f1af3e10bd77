"""The subcommands put together, and what becomes of their errors: one line on stderr and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from metered_anyio.cli import (
    bench,
    explain,
    ping,
    pub,
    replay,
    request,
    respond,
    send,
    serve,
    sim,
    sub,
    token,
)
from metered_anyio.cli.common import Failure, Interrupted, Misuse
from metered_anyio.cli.screen import Unwritable, complain, without_secrets, write_line
from metered_proto.errors import MeteredRealtimeError

app = typer.Typer(
    help="Realtime pub/sub from the command line, and a relay of one's own.",
    add_completion=False,
    # A traceback could show the values of local variables, and with them secrets. `run` prints errors itself.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve.serve)
app.command()(token.token)
app.command()(pub.pub)
app.command()(sub.sub)
app.command()(send.send)
app.command()(request.request)
app.command()(respond.respond)
app.command()(ping.ping)
app.command()(bench.bench)
app.command()(replay.replay)
app.command("explain")(explain.explain_command)
app.command()(sim.sim)

MORE = "metered.commands"
"""The group of entry points in which other packages have subcommands: what is above this one in the imports."""


def _add_more() -> None:
    for entry in sorted(entry_points(group=MORE), key=lambda entry: entry.name):
        try:
            app.command(entry.name)(entry.load())
        except Exception as error:  # it is not to take the other commands with it
            complain(without_secrets(f"{entry.name} cannot be loaded: {type(error).__name__}: {error}"))


_add_more()


def _show_version(wanted: bool) -> None:
    if wanted:
        write_line(f"metered {version('metered-sansio')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help())  # "" where rich has painted it already
        raise typer.Exit(2)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # One line at a time, so that a pipe gets it at once; and UTF-8, which is what JSON is in (RFC 8259, 8.1).
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    try:
        code = app(args=arguments, prog_name="metered", standalone_mode=False)
    except Misuse as error:
        return _failed(2, str(error))
    except (Failure, MeteredRealtimeError) as error:
        return _failed(1, without_secrets(str(error)))
    except Unwritable as error:
        _leave_stdout()
        return _failed(1, str(error)) if str(error) else 1
    except Interrupted as interrupted:
        return 128 + interrupted.number
    except (KeyboardInterrupt, typer.Abort):  # before or after the time in which signals are waited for
        return 128 + signal.SIGINT
    except Exception as error:
        # What the parser raises has another base class in each generation of typer, but always this method.
        describe = getattr(error, "format_message", None)
        if describe is not None:
            return _failed(2, f"{without_secrets(describe())} (metered --help says more)")
        return _failed(1, f"unexpected {type(error).__name__}: {without_secrets(str(error))}")
    return code if isinstance(code, int) else 0


def _failed(code: int, message: str) -> int:
    complain(message)
    return code


def _leave_stdout() -> None:
    # What is still buffered must not fail once more when the interpreter ends.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
