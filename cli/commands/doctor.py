"""`millpond doctor`: is everything there that this needs?"""

import click

from cli.doctor import Level, examine
from settings import load_catalogue, load_settings

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command()
def command() -> None:
    """Check every server, the schema, the broker's limits, the models and the port; exit with 1 if something does not work."""
    settings = load_settings()
    worst = Level.OK
    for finding in examine(settings, load_catalogue(settings)):
        click.secho(f"{finding.level:<5}", fg=_COLOURS[finding.level], nl=False)
        click.echo(f"{finding.what}: {finding.says}")
        if finding.do:
            click.echo(f"     → {finding.do}")
        if finding.level is Level.FAIL or worst is Level.OK:
            worst = finding.level
    if worst is Level.FAIL:
        raise click.exceptions.Exit(1)
