"""What a worker process is told at its start, and how its children learn it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from domain.catalogue import Catalogue
from storage.objects import StoreLocation

_FILE = "worker.json"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Everything a worker of one pool needs; durations as in ``settings``.

    Attributes:
        name: unique to the process; the first part of the owner of every lease it takes.
        concurrency: child processes.
        run_dir: a private folder of this process, for what it shares with its children.
        models_dir: where the weights are.
        files: where the store of files is.
        missing: models of the pool whose weights or provider's key are not there; the worker does without them.
        provider_keys: keys of providers by name, of which each backend is given the one that its model's options name.
        fetch_allow_private: whether inputs may be fetched from private addresses.
        output_inline_bytes: a larger output is stored as a file.
    """

    name: str
    pool: str
    concurrency: int
    database_url: str
    broker_url: str
    catalogue: Catalogue
    run_dir: Path
    models_dir: Path
    files: StoreLocation
    queue_type: str = "classic"
    visibility_timeout_s: float = 28_800.0
    lease_s: float = 30.0
    lease_renew_s: float = 5.0
    cancel_kill_s: float = 4.0
    drain_s: float = 25.0
    fetch_allow_private: bool = False
    output_inline_bytes: int = 1_048_576
    log_level: str = "INFO"
    log_format: str = "console"
    missing: tuple[str, ...] = ()
    provider_keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    def save(self) -> None:
        """Writes the file from which children load this; for this user's eyes only, since URLs hold passwords."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields |= {"catalogue": self.catalogue.model_dump(mode="json"), "run_dir": str(self.run_dir), "models_dir": str(self.models_dir)}
        path = self.run_dir / _FILE
        path.touch(mode=0o600)
        path.write_bytes(orjson.dumps(fields))

    @classmethod
    def load(cls, run_dir: Path) -> "WorkerConfig":
        """What the main process saved."""
        fields = orjson.loads((run_dir / _FILE).read_bytes())
        fields["catalogue"] = Catalogue.model_validate(fields["catalogue"])
        fields["files"] = StoreLocation(**fields["files"])
        config = cls(**fields)
        return replace(config, run_dir=Path(config.run_dir), models_dir=Path(config.models_dir))
