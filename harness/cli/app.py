"""The command `harness`: all verbs, and how their errors are reported."""

from __future__ import annotations

import sys

import typer

from harness import environment
from harness.cli import bench, cluster, data, streams
from harness.cli.claims import claims
from harness.cli.doctor import doctor
from harness.cli.plan import plan
from harness.cli.refusals import plain, say, unusable
from harness.cli.report import report, table, ui
from harness.cli.run import run, trial, tune
from harness.cli.shard import shard
from harness.cli.status import status
from harness.cli.submit import submit

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compare ways to a small state-space model, at equal size and by counted cost.",
)
for verb in (plan, run, submit, shard, trial, tune, status, report, table, claims, ui, doctor):
    app.command()(verb)
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")
app.add_typer(cluster.app, name="cluster")

INTERRUPTED = 130


def main() -> None:
    """Run a verb: 0 done, 2 bad input, 3 some trials failed, 130 interrupted."""
    streams.prepare()
    for line in environment.misspelt():
        say(line)
    sys.exit(streams.finish(execute(sys.argv[1:])))


def execute(arguments: list[str]) -> int:
    """The exit code of a command line; bad input is one line on standard error."""
    refused = unusable(arguments)
    if refused is not None:
        return _refuse(refused)
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="harness", standalone_mode=False)
    except KeyboardInterrupt:
        return _refuse("interrupted", INTERRUPTED)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr)  # type: ignore[attr-defined]
            return 2
        message = plain(error)
        if message is None:
            raise
        return _refuse(message, getattr(error, "exit_code", 2))
    if code == INTERRUPTED:  # typer's silent answer to Ctrl-C
        return _refuse("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _refuse(message: str, code: int = 2) -> int:
    say(message)
    return code
