"""BentoML's own way to run a job later: a task of a service. It runs in the process that serves it, after the answer was sent."""

import bentoml


@bentoml.service(workers=1)
class Echo:
    """The model that does nothing."""

    @bentoml.task
    def echo(self, payload: str) -> str:
        """Gives it back."""
        return payload
