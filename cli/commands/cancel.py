"""`millpond cancel`: ends a job that nobody needs any more."""

import click

from cli.client import Client, options
from cli.show import show_json


@click.command()
@click.argument("job_id")
@options
def command(job_id: str, url: str | None, key: str | None) -> None:
    """Cancel a job, waiting or running, and show it."""
    show_json(Client(url, key).call("POST", f"/v1/jobs/{job_id}/cancel"))
