"""Text on images by RapidOCR: PP-OCR's detector, orientation classifier and recogniser, which the package carries."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from rapidocr import RapidOCR

from domain.failures import InferenceError, InvalidImage
from domain.task_types.image_ocr import Input, Line, Output, Point
from workers.backends.base import Inference, Run
from workers.images import MAX_PIXELS, read_image
from workers.turns import one_by_one

MAX_RATIO = 20  # the detector scales the shorter side up, so a long strip would become a huge one


class Options(BaseModel):
    """What the catalogue may say about the model.

    Attributes:
        max_pixels: a larger image is refused before it is decoded.
        max_side: the longer side is scaled down to so many pixels first; print of 8 pixels in height can still be read.
        min_side: the shorter side is scaled up to so many pixels for the detector. RapidOCR's own 736 takes three times as long on small
            images and blurs them: it lost a line of a photographed page and cut a line of print into three.
        threads: of one child.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_pixels: Annotated[int, Field(ge=1, le=200_000_000)] = MAX_PIXELS
    max_side: Annotated[int, Field(ge=320, le=8_000)] = 2_000
    min_side: Annotated[int, Field(ge=32, le=1_000)] = 320
    threads: Annotated[int, Field(ge=1, le=256)] = 1


class RapidOcr:
    """Runs RapidOCR; the micro-batch is a loop, since the lines of an image are a batch of their own."""

    _options: Options
    _engine: RapidOCR

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:  # noqa: ARG002  # the weights are inside the package
        """Opens the three networks and reads an empty page, so that the first job does not pay for it."""
        self._options = read = Options.model_validate(options)
        engine = {"EngineConfig.onnxruntime.intra_op_num_threads": read.threads, "EngineConfig.onnxruntime.inter_op_num_threads": 1}
        sizes = {"Global.max_side_len": read.max_side, "Det.limit_type": "min", "Det.limit_side_len": read.min_side}
        self._engine = RapidOCR(params={**engine, **sizes, "Global.log_level": "critical"})
        self._read(Image.new("RGB", (64, 64), "white"))

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Reads one image after the other."""
        return one_by_one(len(inputs), run, lambda job: Inference(self._read(read_image(run.blobs[job]["image"], max_pixels=self._options.max_pixels))))

    def unload(self) -> None:
        """Forgets the networks."""
        del self._engine

    def _read(self, image: Image.Image) -> Output:
        if max(image.size) > MAX_RATIO * min(image.size):
            raise InvalidImage(f"{image.width} × {image.height} pixels: a side may be at most {MAX_RATIO} times the other; cut it into pieces")
        found = self._engine(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]))  # blue first, as OpenCV has it
        if found.boxes is None or found.txts is None:
            return Output(text="", lines=[])
        lines = [
            Line(text=text, confidence=min(1.0, max(0.0, float(score))), box=[Point(x=float(x), y=float(y)) for x, y in box])
            for text, score, box in zip(found.txts, found.scores, found.boxes, strict=True)
        ]
        return Output(text="\n".join(line.text for line in lines), lines=lines)
