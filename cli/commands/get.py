"""`millpond get`: one job."""

import click

from cli.client import Client, options
from cli.show import show_json


@click.command()
@click.argument("job_id")
@click.option("--wait", "wait_s", type=click.IntRange(0, 60), help="Wait up to so many seconds for its end.")
@options
def command(job_id: str, wait_s: int | None, url: str | None, key: str | None) -> None:
    """Show a job as JSON."""
    show_json(Client(url, key).call("GET", f"/v1/jobs/{job_id}", wait_s=wait_s))
