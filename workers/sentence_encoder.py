"""Sentence vectors by an ONNX encoder, for every backend that computes with them: tokenise, run, mean over the tokens, length 1.

Models of one child that run the same weights share one encoder: ``SentenceEncoder.open`` gives the one that is open already.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from domain.usage import Usage
from workers.backends.base import Run

Vectors = NDArray[np.float32]
"""One vector a row."""


class EncoderOptions(BaseModel):
    """What the catalogue may say about an encoder.

    Attributes:
        max_tokens: longer texts are cut to so many tokens, the two special ones included; MiniLM was trained on no more than 256.
        tokens_per_run: the most tokens, padding included, in one run of the model. 512 was fastest on 2 cores: more falls
            out of the processor's cache (``docs/decisions/0006-models-and-weights.md``).
        threads: of one child; said outright, since the runtime otherwise takes every core of the host.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: Annotated[int, Field(ge=8, le=8_192)] = 256
    tokens_per_run: Annotated[int, Field(ge=8)] = 512
    threads: Annotated[int, Field(ge=1, le=256)] = 1


@dataclass(frozen=True, slots=True)
class Embedded:
    """One job's texts as vectors of unit length, and the tokens that were read for them."""

    vectors: Vectors
    usage: Usage


class SentenceEncoder:
    """Runs an encoder with inputs ``input_ids``, ``attention_mask``, ``token_type_ids`` and the token vectors as its first output."""

    def __init__(self, model: Path, tokenizer: Path, options: EncoderOptions) -> None:
        """Opens the model and the tokenizer, and runs one text, so that the first job does not pay for it."""
        self._tokens_per_run = options.tokens_per_run
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(options.max_tokens)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        # Threads that spin while they wait are a little faster alone and take the cores from the rest of the host.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
        self._input_names = frozenset(node.name for node in self._session.get_inputs())
        self._run(self._tokenize(["warm"]))

    @classmethod
    def open(cls, files: Mapping[str, Path], options: Mapping[str, Any]) -> "SentenceEncoder":
        """The encoder of these files: the one that another model of this process has open with the same options, else a new one.

        It is closed when the last who holds it lets it go.

        Args:
            files: ``model`` (ONNX) and ``tokenizer`` (``tokenizer.json``).
            options: an ``EncoderOptions``.
        """
        read = EncoderOptions.model_validate(options)
        key = files["model"], files["tokenizer"], read
        encoder = _open.get(key)
        if encoder is None:
            encoder = _open[key] = cls(files["model"], files["tokenizer"], read)
        return encoder

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of a few texts, in one run."""
        return self._run(self._tokenize(texts))

    def embed_jobs(self, jobs: Sequence[Sequence[str]], run: Run, *, tell_progress: bool = False) -> list[Embedded | None]:
        """Embeds all texts of all jobs, similar lengths together.

        Args:
            jobs: the texts of each job; none is allowed, for a job that needs no vector.
            run: asked before every run of the model whether its jobs are still wanted.
            tell_progress: whether watchers hear how many of a job's texts are through.

        Returns:
            One entry a job; None for a job that is wanted no longer.
        """
        texts = [text for job in jobs for text in job]
        owner = [job for job, of_job in enumerate(jobs) for _ in of_job]
        tokens = self._tokenize(texts)
        vectors: list[Vectors | None] = [None] * len(texts)
        done = [0] * len(jobs)
        stopped: set[int] = set()
        for members in by_length([len(ids) for ids in tokens], self._tokens_per_run):
            stopped.update(job for job in {owner[text] for text in members} if run.should_stop(job))
            wanted = [text for text in members if owner[text] not in stopped]
            if not wanted:
                continue
            for text, vector in zip(wanted, self._run([tokens[text] for text in wanted]), strict=True):
                vectors[text] = vector
                done[owner[text]] += 1
            for job in {owner[text] for text in wanted} if tell_progress else ():
                if done[job] < len(jobs[job]):
                    run.emit_progress(job, done[job], len(jobs[job]))
        embedded: list[Embedded | None] = []
        first = 0
        for job, of_job in enumerate(jobs):
            end = first + len(of_job)
            rows = [vector for vector in vectors[first:end] if vector is not None] or np.empty((0, 0), np.float32)
            read = Usage(input_tokens=sum(len(ids) for ids in tokens[first:end]))
            embedded.append(None if job in stopped else Embedded(np.asarray(rows), read))
            first = end
        return embedded

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    def _run(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        """Unit vectors of token sequences, which are padded to the longest."""
        shape = len(tokens), max(len(ids) for ids in tokens)
        token_ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, ids in enumerate(tokens):
            token_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        feeds = {"input_ids": token_ids, "attention_mask": mask, "token_type_ids": np.zeros(shape, np.int64)}
        hidden: Vectors = self._session.run(None, {name: feeds[name] for name in feeds if name in self._input_names})[0]
        weights = mask[:, :, None].astype(np.float32)
        return unit((hidden * weights).sum(axis=1) / weights.sum(axis=1))


_open: WeakValueDictionary[tuple[Path, Path, EncoderOptions], SentenceEncoder] = WeakValueDictionary()  # of this child


def unit(vectors: Vectors) -> Vectors:
    """The same directions, each of length 1; a zero vector stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def softmax(values: Vectors) -> list[float]:
    """Numbers above 0 in the order of the values, which sum to 1."""
    powers = np.exp(values.astype(np.float64) - values.max())
    shares: list[float] = (powers / powers.sum()).tolist()
    return shares


def by_length(lengths: Sequence[int], tokens_per_run: int) -> Iterator[list[int]]:
    """Splits texts into runs of similar length, so that little is computed on padding.

    A run grows while its longest text is at most an eighth (and 2 tokens) longer than its shortest, and the padded whole stays
    within ``tokens_per_run``.

    Args:
        lengths: tokens of each text.
        tokens_per_run: the bound; a text that exceeds it runs alone.

    Yields:
        Indexes of the texts of one run, the shortest first.
    """
    members: list[int] = []
    for text in sorted(range(len(lengths)), key=lengths.__getitem__):
        if members and (lengths[text] > lengths[members[0]] * 9 // 8 + 2 or (len(members) + 1) * lengths[text] > tokens_per_run):
            yield members
            members = []
        members.append(text)
    if members:
        yield members
