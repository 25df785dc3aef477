"""Sentence vectors by an ONNX encoder: tokenise, run, mean over the tokens, length 1."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from domain.usage import Usage
from workers.backends.base import Run
from workers.vectors import Embedded, Vectors, unit


class SentenceEncoder:
    """Runs an encoder with inputs ``input_ids``, ``attention_mask``, ``token_type_ids`` and the token vectors as its first output."""

    class Options(BaseModel):
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

    def __init__(self, model: Path, tokenizer: Path, options: Mapping[str, Any]) -> None:
        """Opens the model and the tokenizer, and runs one text, so that the first job does not pay for it."""
        read = self.Options.model_validate(options)
        self._tokens_per_run = read.tokens_per_run
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(read.max_tokens)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = read.threads
        settings.inter_op_num_threads = 1
        # Threads that spin while they wait are a little faster alone and take the cores from the rest of the host.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
        self._input_names = frozenset(node.name for node in self._session.get_inputs())
        self._run(self._tokenize(["warm"]))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of a few texts, in one run."""
        return self._run(self._tokenize(texts))

    def embed_jobs(self, jobs: Sequence[Sequence[str]], run: Run, *, tell_progress: bool = False) -> list[Embedded | None]:
        """Embeds all texts of all jobs, similar lengths together; asks before every run of the network which jobs are still wanted."""
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
