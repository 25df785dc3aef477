"""Sentence vectors without a network: each token has one vector, and a text's is the mean of its tokens'."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from domain.usage import Usage
from workers.backends.base import Run
from workers.vectors import Embedded, Vectors, unit

TEXTS_PER_STEP = 32  # between two looks at the stop flag
_DTYPES = {"F32": np.float32, "F16": np.float16}
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its JSON header


class StaticEncoder:
    """Looks tokens up in a table of vectors: a safetensors file that holds one matrix."""

    class Options(BaseModel):
        """What the catalogue may say about a static encoder.

        Attributes:
            max_tokens: longer texts are cut to so many tokens.
        """

        model_config = ConfigDict(extra="forbid", frozen=True)

        max_tokens: Annotated[int, Field(ge=8, le=65_536)] = 4_096

    def __init__(self, model: Path, tokenizer: Path, options: Mapping[str, Any]) -> None:
        """Maps the table into memory, so that all children share its pages, and reads the tokenizer."""
        read = self.Options.model_validate(options)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(read.max_tokens)
        self._table = only_matrix(model)
        if self._tokenizer.get_vocab_size() > len(self._table):
            raise ValueError(f"the tokenizer has {self._tokenizer.get_vocab_size()} tokens, the table has {len(self._table)} rows")

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of a few texts."""
        return self._embed(texts)[0]

    def embed_jobs(self, jobs: Sequence[Sequence[str]], run: Run, *, tell_progress: bool = False) -> list[Embedded | None]:
        """Embeds job by job: a batch saves nothing where there is no network to run."""
        return [self._job(texts, job, run, tell_progress=tell_progress) for job, texts in enumerate(jobs)]

    def _job(self, texts: Sequence[str], job: int, run: Run, *, tell_progress: bool) -> Embedded | None:
        steps: list[Vectors] = []
        input_tokens = 0
        for first in range(0, len(texts), TEXTS_PER_STEP):
            if run.should_stop(job):
                return None
            vectors, tokens = self._embed(texts[first : first + TEXTS_PER_STEP])
            steps.append(vectors)
            input_tokens += tokens
            if tell_progress and first + TEXTS_PER_STEP < len(texts):
                run.emit_progress(job, first + TEXTS_PER_STEP, len(texts))
        return Embedded(np.concatenate(steps) if steps else np.empty((0, 0), np.float32), Usage(input_tokens=input_tokens))

    def _embed(self, texts: Sequence[str]) -> tuple[Vectors, int]:
        """Vectors, and how many tokens they were made of."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        return unit(np.stack([self._table[ids].mean(axis=0, dtype=np.float32) for ids in tokens])), sum(len(ids) for ids in tokens)


def only_matrix(path: Path) -> NDArray[Any]:
    """The matrix of a safetensors file that holds one, mapped into memory, not read.

    Raises:
        ValueError: it holds something else.
    """
    with path.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if header_bytes > path.stat().st_size:
            raise ValueError(f"{path.name} is no safetensors file")
        tensors = {name: entry for name, entry in json.loads(stream.read(header_bytes)).items() if name != "__metadata__"}
    if len(tensors) != 1:
        raise ValueError(f"{path.name} holds {len(tensors)} tensors; one is expected")
    (tensor,) = tensors.values()
    if tensor["dtype"] not in _DTYPES or len(tensor["shape"]) != 2:
        raise ValueError(f"{path.name} holds {tensor['dtype']} of shape {tensor['shape']}; a matrix of F16 or F32 is expected")
    rows, columns = tensor["shape"]
    offset = _LENGTH_BYTES + header_bytes + tensor["data_offsets"][0]
    return np.memmap(path, _DTYPES[tensor["dtype"]], mode="r", offset=offset, shape=(rows, columns))
