"""The command line: `millpond <command>`. A command's module is imported when it is asked for, so that `--help` answers at once."""

import importlib
import sys
from typing import Any

import click

from domain.errors import ConfigurationError, MillpondError, ModelsNotLoaded

_COMMANDS = {
    "up": "Start everything on this machine, and show one real job per task type.",
    "api": "Run the HTTP API.",
    "worker": "Run a worker of one pool.",
    "webhooks": "Send webhooks.",
    "maintenance": "Run the relay, the sweep, the reapers, the pruner and the rest of what must be done again and again.",
    "migrate": "Bring the database to the newest schema.",
    "doctor": "Check everything this needs, and say what to do.",
    "models": "Show and fetch model weights.",
    "submit": "Submit a job.",
    "get": "Show a job.",
    "cancel": "Cancel a job.",
    "listen": "Send what happens to a URL on your machine, as a webhook would.",
    "queues": "Show what waits and what runs, pool by pool.",
}


class Failed(click.ClickException):
    """A failure shown as one clear line, without a stack."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Writes it to standard error."""
        click.secho("millpond: ", fg="red", bold=True, nl=False, file=file or sys.stderr)
        click.echo(self.format_message(), file=file or sys.stderr)


class Misconfigured(Failed):
    """The settings or the catalogue are wrong, or the command line is."""

    exit_code = 2


class Unable(Failed):
    """This machine lacks what a worker's models need: it cannot run here."""

    exit_code = 3


class Commands(click.Group):
    """Lists commands from a table; loads one from ``cli/commands/<name>.py``, where it is called ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        """In the order of the table: processes first, then people's tasks."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now."""
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"cli.commands.{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list in ``--help``, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; an error that is meant for people ends it with one line, and an exit code by its kind."""
        try:
            return super().invoke(ctx)
        except MillpondError as error:
            kinds = {ConfigurationError: Misconfigured, ModelsNotLoaded: Unable}
            raise kinds.get(type(error), Failed)(error.message) from error


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="millpond")
def main() -> None:
    """Millpond: a queue-backed inference platform."""


if __name__ == "__main__":
    main(prog_name="millpond")
