"""Sentence embeddings by an ONNX encoder: tokenise, run, mean over the tokens, length 1."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from domain.errors import CanceledByUser, InferenceError
from domain.task_types.text_embedding import Input, Output
from domain.usage import Usage
from workers.backends.base import Inference, Run


class Options(BaseModel):
    """What the catalogue may say about the model.

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


class OnnxEmbedding:
    """Runs an encoder with inputs ``input_ids``, ``attention_mask``, ``token_type_ids`` and the token vectors as its first output.

    Files: ``model`` (ONNX) and ``tokenizer`` (``tokenizer.json``).
    """

    _options: Options
    _session: onnxruntime.InferenceSession
    _tokenizer: Tokenizer
    _input_names: frozenset[str]

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Opens the model and the tokenizer, and runs one text, so that the first job does not pay for it."""
        self._options = Options.model_validate(options)
        self._tokenizer = Tokenizer.from_file(str(files["tokenizer"]))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._options.max_tokens)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = self._options.threads
        settings.inter_op_num_threads = 1
        # Threads that spin while they wait are a little faster alone and take the cores from the rest of the host.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(files["model"]), settings, providers=["CPUExecutionProvider"])
        self._input_names = frozenset(node.name for node in self._session.get_inputs())
        self._embed([self._tokenizer.encode("warm").ids])

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Embeds all texts of all jobs, similar lengths together."""
        texts = [text for value in inputs for text in value.texts]
        owner = [job for job, value in enumerate(inputs) for _ in value.texts]
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        vectors: list[list[float]] = [[] for _ in texts]
        done = [0] * len(inputs)
        stopped: set[int] = set()
        for members in by_length([len(ids) for ids in tokens], self._options.tokens_per_run):
            stopped.update(job for job in {owner[text] for text in members} if run.should_stop(job))
            wanted = [text for text in members if owner[text] not in stopped]
            if not wanted:
                continue
            for text, vector in zip(wanted, self._embed([tokens[text] for text in wanted]).tolist(), strict=True):
                vectors[text] = vector
                done[owner[text]] += 1
            for job in {owner[text] for text in wanted}:
                if done[job] < len(inputs[job].texts):
                    run.emit_progress(job, done[job], len(inputs[job].texts))
        results: list[Inference | InferenceError] = []
        first = 0
        for job, value in enumerate(inputs):
            end = first + len(value.texts)
            if job in stopped:
                results.append(CanceledByUser())
            else:
                output = Output(embeddings=vectors[first:end], dimensions=len(vectors[first]))
                results.append(Inference(output, Usage(input_tokens=sum(len(ids) for ids in tokens[first:end]))))
            first = end
        return results

    def unload(self) -> None:
        """Closes the session."""
        del self._session, self._tokenizer

    def _embed(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Unit vectors, one a row, of token sequences that are padded to the longest."""
        shape = len(tokens), max(len(ids) for ids in tokens)
        token_ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, ids in enumerate(tokens):
            token_ids[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        feeds = {"input_ids": token_ids, "attention_mask": mask, "token_type_ids": np.zeros(shape, np.int64)}
        hidden: NDArray[np.float32] = self._session.run(None, {name: feeds[name] for name in feeds if name in self._input_names})[0]
        weights = mask[:, :, None].astype(np.float32)
        means = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        unit: NDArray[np.float32] = means / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit


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
