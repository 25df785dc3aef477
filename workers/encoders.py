"""What turns texts into vectors, for every backend that computes with them: a network, or a table of tokens.

Models of one child that run the same weights share one encoder, so that they are in memory once.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from workers.backends.base import Run
from workers.sentence_encoder import SentenceEncoder
from workers.static_encoder import StaticEncoder
from workers.vectors import Embedded, Vectors


class Encoder(Protocol):
    """Embeds texts."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of unit length of a few texts."""

    def embed_jobs(self, jobs: Sequence[Sequence[str]], run: Run, *, tell_progress: bool = False) -> list[Embedded | None]:
        """Embeds all texts of all jobs.

        Args:
            jobs: the texts of each job; none is allowed, for a job that needs no vector.
            run: asked between steps whether jobs are still wanted.
            tell_progress: whether watchers hear how many of a job's texts are through.

        Returns:
            One entry a job; None for a job that is wanted no longer.
        """


_open: WeakValueDictionary[tuple[Path, Path, str], Encoder] = WeakValueDictionary()  # of this child


def open_encoder(files: Mapping[str, Path], options: Mapping[str, Any]) -> Encoder:
    """The encoder of these files: the one that another model of this process has open with the same options, else a new one.

    It is closed when the last who holds it lets it go.

    Args:
        files: ``tokenizer`` (``tokenizer.json``) and ``model``: a network (``.onnx``) or a table of vectors (``.safetensors``).
        options: ``SentenceEncoder.Options`` or ``StaticEncoder.Options``.

    Raises:
        ValueError: the options are not of this kind of encoder, or a file cannot be read as what it should be.
    """
    kind = StaticEncoder if files["model"].suffix == ".safetensors" else SentenceEncoder
    key = files["model"], files["tokenizer"], json.dumps(options, sort_keys=True)
    encoder = _open.get(key)
    if encoder is None:
        encoder = _open[key] = kind(files["model"], files["tokenizer"], options)
    return encoder
