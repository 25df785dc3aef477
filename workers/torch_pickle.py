"""Tensors of a file that PyTorch saved before version 1.6, read without PyTorch.

Such a file is five pickles and then the numbers themselves. A pickle may name anything to be called; this reader knows the four things that
tensors need and refuses every other, so that reading runs no code of the file's.
"""

import collections
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_NUMBERS: Mapping[str, type[np.generic]] = {"FloatStorage": np.float32, "LongStorage": np.int64}


@dataclass(slots=True)
class _Storage:
    """A run of numbers that tensors are views of."""

    dtype: type[np.generic]
    numbers: Array = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> Array:
        flat = self.storage.numbers
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if self.offset < 0 or last >= len(flat) or min(self.strides, default=0) < 0:
            raise ValueError("a tensor lies outside of its storage")
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, [step * flat.itemsize for step in self.strides]).copy()


class _Reader(pickle.Unpickler):
    """Knows tensors and nothing else."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _NUMBERS:
            return name
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            make: Callable[..., _Tensor] = lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)  # noqa: E731
            return make
        raise ValueError(f"a file of tensors has no use for {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, *_ = pid
        return self.storages.setdefault(key, _Storage(_NUMBERS[kind]))


def read_tensors(path: Path) -> dict[str, Array]:
    """The tensors of a state dict, by name.

    Raises:
        ValueError: it is no such file, or names something that tensors do not need.
    """
    with path.open("rb") as stream:
        if _Reader(stream).load() != _MAGIC or _Reader(stream).load() != _PROTOCOL:
            raise ValueError(f"{path.name} is not of PyTorch's format before 1.6")
        _Reader(stream).load()  # what machine wrote it
        reader = _Reader(stream)
        tensors = reader.load()
        for key in _Reader(stream).load():
            storage = reader.storages[key]
            (count,) = struct.unpack("<q", stream.read(8))
            storage.numbers = np.frombuffer(stream.read(count * np.dtype(storage.dtype).itemsize), dtype=storage.dtype)
    return {name: tensor.array() for name, tensor in tensors.items()}
