"""What a job's input becomes for a model: rows of pixels, tokens or numbers, by a spec of the catalogue.

A job gives one row, or one a text where its field holds several. Rows of many jobs are stacked into one run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from domain.contracts import Blob
from domain.failures import InvalidInput, UnsupportedInput

Array = NDArray[Any]
Side = Annotated[int, Field(ge=1, le=4_096)]
Channels = tuple[float, float, float]


class Spec(BaseModel):
    """A part of a model's options."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageSpec(Spec):
    """An image of the job, as a tensor of three channels: ``(pixel · scale - mean) / std``.

    Attributes:
        field: of the task's Input.
        height, width: of the tensor.
        fit: ``cover`` keeps the proportions and cuts off what is over, ``squeeze`` keeps everything.
        crop: the share of each side that is kept of the middle, such as 0.875 for 224 of 256.
        channels: their order.
        layout: channels first or last.
        scale: of a pixel's 0 to 255.
        mean, std: of each channel, in the order of ``channels``.
        max_pixels: a larger image is refused before it is decoded.
    """

    kind: Literal["image"]
    field: str = "image"
    height: Side
    width: Side
    fit: Literal["cover", "squeeze"] = "cover"
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    channels: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    scale: Annotated[float, Field(gt=0)] = 1 / 255
    mean: Channels = (0.0, 0.0, 0.0)
    std: Channels = (1.0, 1.0, 1.0)
    max_pixels: Annotated[int, Field(ge=1, le=200_000_000)] = 50_000_000


class TokensSpec(Spec):
    """A text of the job, or several, as ``input_ids``, ``attention_mask`` and ``token_type_ids``, by the file ``tokenizer`` (tokenizer.json).

    Attributes:
        field: of the task's Input: a string, or a list of them.
        max_tokens: longer texts are cut to so many, the special ones included.
    """

    kind: Literal["tokens"]
    field: str = "text"
    max_tokens: Annotated[int, Field(ge=4, le=32_768)] = 256


class NumbersSpec(Spec):
    """A field of numbers, or of lists of them, as it stands; its shape must be the one that the model takes.

    Attributes:
        field: of the task's Input.
    """

    kind: Literal["numbers"]
    field: str


class Feeder(Protocol):
    """Makes rows of inputs, and feeds of rows."""

    def rows(self, value: Any, blobs: Mapping[str, Blob]) -> Sequence[Any]:
        """The rows of one job.

        Raises:
            InferenceError: it cannot be read.
        """

    def warm(self, shape: Sequence[int]) -> Any:
        """A row like any other, for the first run; ``shape`` is the model's, what varies being 1."""

    def tokens(self, row: Any) -> int:
        """How long a row is, where rows differ; else 0."""

    def feeds(self, rows: Sequence[Any], name: str) -> Mapping[str, Array]:
        """The rows as one tensor each way, ``name`` being the model's first input."""


class Images:
    """Feeds pixels."""

    def __init__(self, spec: ImageSpec) -> None:
        from workers.images import read_image  # noqa: PLC0415 - a model of texts needs no decoders

        self._spec = spec
        self._read = read_image

    def rows(self, value: Any, blobs: Mapping[str, Blob]) -> Sequence[Array]:  # noqa: ARG002  # pixels are in the blob
        """One."""
        spec = self._spec
        image = self._read(blobs[spec.field], max_pixels=spec.max_pixels)
        size = round(spec.width / spec.crop), round(spec.height / spec.crop)
        box = None
        if spec.fit == "cover":
            share = min(image.width / size[0], image.height / size[1])
            left, top = (image.width - size[0] * share) / 2, (image.height - size[1] * share) / 2
            box = (left, top, left + size[0] * share, top + size[1] * share)
        from PIL.Image import Resampling  # noqa: PLC0415

        left, top = (size[0] - spec.width) // 2, (size[1] - spec.height) // 2
        scaled = image.resize(size, Resampling.BILINEAR, box=box, reducing_gap=3.0).crop((left, top, left + spec.width, top + spec.height))
        pixels: Array = np.asarray(scaled, dtype=np.float32)
        if spec.channels == "bgr":
            pixels = pixels[:, :, ::-1]
        pixels = (pixels * np.float32(spec.scale) - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
        return [pixels.transpose(2, 0, 1) if spec.layout == "nchw" else pixels]

    def warm(self, shape: Sequence[int]) -> Array:  # noqa: ARG002  # the spec says it
        """Black."""
        spec = self._spec
        return np.zeros((3, spec.height, spec.width) if spec.layout == "nchw" else (spec.height, spec.width, 3), np.float32)

    def tokens(self, row: Array) -> int:  # noqa: ARG002
        """Pixels are none."""
        return 0

    def feeds(self, rows: Sequence[Array], name: str) -> Mapping[str, Array]:
        """One tensor."""
        return {name: np.stack(rows)}


class Tokens:
    """Feeds tokens, padded to the longest row of a run.

    Args:
        spec: names the field and the bound.
        tokenizer: a ``tokenizer.json``.
        length: to which the model wants every row padded; None where it takes any.
    """

    def __init__(self, spec: TokensSpec, tokenizer: Path, length: int | None) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - a model of images needs none

        self._spec = spec
        self._length = length
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(min(spec.max_tokens, length or spec.max_tokens))

    def rows(self, value: Any, blobs: Mapping[str, Blob]) -> Sequence[Sequence[int]]:  # noqa: ARG002  # texts are in the input
        """One a text."""
        said = getattr(value, self._spec.field)
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast([said] if isinstance(said, str) else said)]

    def spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Where in the text each token of its row stands; special ones stand nowhere: they are empty."""
        offsets: list[tuple[int, int]] = self._tokenizer.encode(text).offsets
        return offsets

    def warm(self, shape: Sequence[int]) -> Sequence[int]:  # noqa: ARG002  # texts have one of their own
        """As long as the spec allows: what it promises, the model must take."""
        ids: list[int] = self._tokenizer.encode("warm " * self._spec.max_tokens).ids
        return ids

    def tokens(self, row: Sequence[int]) -> int:
        """Its tokens."""
        return len(row)

    def feeds(self, rows: Sequence[Sequence[int]], name: str) -> Mapping[str, Array]:
        """Ids, mask and types."""
        shape = len(rows), self._length or max(len(ids) for ids in rows)
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, found in enumerate(rows):
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        return {name: ids, "input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros(shape, np.int64)}


class Numbers:
    """Feeds numbers as they are.

    Args:
        spec: names the field.
        shape: of one row, -1 for what may vary.
    """

    def __init__(self, spec: NumbersSpec, shape: Sequence[int]) -> None:
        self._spec = spec
        self._shape = tuple(shape)

    def rows(self, value: Any, blobs: Mapping[str, Blob]) -> Sequence[Array]:  # noqa: ARG002  # numbers are in the input
        """One.

        Raises:
            InvalidInput: they are no numbers, or of no shape.
            UnsupportedInput: they are not of the model's shape.
        """
        try:
            row = np.asarray(getattr(value, self._spec.field), dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"{self._spec.field} holds no numbers, or lists of several lengths") from error
        if row.ndim != len(self._shape) or any(want not in {-1, have} for want, have in zip(self._shape, row.shape, strict=True)):
            raise UnsupportedInput(f"{self._spec.field} is of the shape {list(row.shape)}; the model takes {list(self._shape)}")
        return [row]

    def warm(self, shape: Sequence[int]) -> Array:
        """Zeros."""
        return np.zeros(tuple(shape), np.float64)

    def tokens(self, row: Array) -> int:
        """What tells rows apart that cannot be stacked."""
        return int(row.size)

    def feeds(self, rows: Sequence[Array], name: str) -> Mapping[str, Array]:
        """One tensor."""
        return {name: np.stack(rows)}
