"""Encoders: a table of vectors made here, shared by all that open it."""

import gc
import json
import math
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from workers.encoders import open_encoder
from workers.static_encoder import StaticEncoder, only_matrix
from workers.vectors import softmax, unit

TABLE = np.array([[0, 1], [3, 4], [1, 0], [0, 0]], np.float16)


def safetensors(folder: Path, tensors: Mapping[str, tuple[str, list[int], bytes]]) -> Path:
    """A file of the format's first version, as its authors describe it: length, JSON header, data."""
    header: dict[str, Any] = {"__metadata__": {"made": "here"}}
    data = b""
    for name, (dtype, shape, body) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(body)]}
        data += body
    head = json.dumps(header).encode()
    path = folder / "table.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A table of four tokens and its tokenizer."""
    tokenizer = Tokenizer(models.WordLevel({"[unknown]": 0, "mill": 1, "pond": 2, "nothing": 3}, unk_token="[unknown]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return {"model": safetensors(tmp_path, {"table": ("F16", [4, 2], TABLE.tobytes())}), "tokenizer": tmp_path / "tokenizer.json"}


def test_static_vector_is_the_mean_of_its_tokens_of_length_1(files: dict[str, Path]) -> None:
    vectors = open_encoder(files, {}).embed(["mill", "mill pond", "pond nothing nothing"])
    assert np.allclose(vectors, np.array([[0.6, 0.8], [math.sqrt(0.5), math.sqrt(0.5)], [1, 0]]))


def test_models_with_the_same_files_and_options_share_one_encoder_until_the_last_lets_go(files: dict[str, Path]) -> None:
    one, two, other = open_encoder(files, {"max_tokens": 8}), open_encoder(files, {"max_tokens": 8}), open_encoder(files, {"max_tokens": 9})
    assert one is two
    assert one is not other
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is two
    del two
    gc.collect()
    assert gone() is None
    assert open_encoder(files, {"max_tokens": 8}).embed(["mill " * 100]).shape == (1, 2)


def test_options_of_another_kind_of_encoder_are_refused(files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="threads"):
        open_encoder(files, {"threads": 1})


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"a": ("F16", [1, 1], b"ab"), "b": ("F16", [1, 1], b"ab")}, "2 tensors"),
        ({"a": ("BF16", [1, 1], b"ab")}, "BF16"),
        ({"a": ("F16", [1], b"ab")}, "a matrix"),
    ],
)
def test_file_that_holds_no_single_matrix_is_refused(tmp_path: Path, tensors: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        only_matrix(safetensors(tmp_path, tensors))


def test_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ValueError, match="no safetensors file"):
        only_matrix(tmp_path / "x.safetensors")


def test_table_with_too_few_rows_for_its_tokenizer_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    small = safetensors(tmp_path, {"table": ("F32", [2, 1], b"\0" * 8)})
    with pytest.raises(ValueError, match="4 tokens, the table has 2 rows"):
        StaticEncoder(small, files["tokenizer"], {})


def test_unit_and_softmax_take_extremes() -> None:
    assert unit(np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]
    assert math.isclose(sum(softmax(np.array([1_000.0, -1_000.0, 999.0], np.float32))), 1.0)
