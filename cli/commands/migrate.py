"""`millpond migrate`: the schema of the database."""

import click
from sqlalchemy.exc import OperationalError

from cli.servers import database_url
from domain.errors import ServiceUnavailable
from models.migrate import downgrade, pending, upgrade
from settings import load_settings
from telemetry.logs import configure_logging


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if migrations are missing.")
@click.option("--down-to", metavar="REVISION", help="Take migrations back, down to this one (`base` for an empty database): what they made is lost.")
def command(down_to: str | None, *, check: bool) -> None:
    """Bring the database to the newest schema; nothing happens if it is there already."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    url = database_url(settings)
    try:
        if down_to is not None:
            downgrade(url, down_to)
            click.echo(f"The database is at revision {down_to}.")
            return
        missing = pending(url)
        if check and missing:
            raise click.exceptions.Exit(_say(f"Missing: {', '.join(missing)}. Run `millpond migrate`."))
        if missing:
            upgrade(url)
        click.echo(f"Migrated: {', '.join(missing)}." if missing else "The database has the newest schema.")
    except OperationalError as error:
        raise ServiceUnavailable(f"the database does not answer, or refuses: {str(error.orig).strip()}") from error


def _say(text: str) -> int:
    click.echo(text)
    return 1
