"""`millpond models`: which models the catalogue has, and fetching their weights."""

import click
from rich.console import Console
from rich.table import Table

from settings import load_catalogue, load_settings
from weights.pull import pull_models
from weights.store import installed


@click.group()
def command() -> None:
    """List the models of the catalogue and fetch their weights."""


@command.command("pull")
@click.argument("names", nargs=-1, metavar="[MODEL]...")
def pull(names: tuple[str, ...]) -> None:
    """Fetch the weights of the models named, or of all whose pools run here (MILLPOND_POOLS)."""
    settings = load_settings()
    catalogue = load_catalogue(settings)
    wanted = catalogue.pools_wanted(settings.pools)
    chosen = names or [name for name, model in catalogue.models.items() if model.pool in wanted]
    pull_models(catalogue, settings.state_dir / "models", report=click.echo, names=chosen)


@command.command("list")
def list_models() -> None:
    """Show every model, its task, pool and licence, and whether its weights are installed."""
    settings = load_settings()
    catalogue = load_catalogue(settings)
    table = Table("model", "task", "pool", "licence", "weights", box=None)
    missing = False
    for name, model in catalogue.models.items():
        there = installed(name, model, settings.state_dir / "models")
        missing = missing or not there
        table.add_row(name, model.task, model.pool, model.license, "missing" if not there else "installed" if model.files else "none needed")
    Console().print(table)
    if missing:
        click.echo("Run `millpond models pull` to fetch what is missing.")
