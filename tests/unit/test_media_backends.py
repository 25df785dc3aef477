"""Rules of the image and audio backends that need no weights."""

import itertools
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from domain.failures import CanceledByUser, InvalidImage
from tests.conformance.harness import run_of
from workers.backends import efficientnet_lite, open_nsfw
from workers.backends.pico import PIECE_CHARS, sentences
from workers.backends.silero_vad import Options, stretches
from workers.torch_pickle import read_tensors
from workers.turns import one_by_one

STEP_S = 0.032
NO_PADS = Options(pad_s=0.0)


# --- one after the other ------------------------------------------------------------------------------------------------


def test_error_of_one_job_concerns_it_alone_and_unwanted_jobs_are_left_out() -> None:
    def work(job: int) -> int:
        if job == 1:
            raise InvalidImage("bad")
        return job * 10

    results = one_by_one(4, run_of(4, should_stop=lambda job: job == 2), work)
    assert (results[0], results[3]) == (0, 30)
    assert isinstance(results[1], InvalidImage)
    assert isinstance(results[2], CanceledByUser)


def test_any_other_error_goes_up() -> None:
    with pytest.raises(ZeroDivisionError):
        one_by_one(1, run_of(1), lambda _: 1 // 0)


# --- images -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 40_000), (40_000, 1), (3, 2), (640, 480)])
def test_image_of_any_shape_becomes_what_the_networks_take(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (255, 255, 255))
    classified = efficientnet_lite.pixels_of(image)
    assert classified.shape == (3, 224, 224)
    assert classified.dtype == np.float32
    assert np.allclose(classified, 1.0)
    assert open_nsfw.pixels_of(image).shape == (224, 224, 3)


# --- PyTorch's files ----------------------------------------------------------------------------------------------------


def torch_file(folder: Path, tensors: object, keys: object = ()) -> Path:
    path = folder / "weights.pth"
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {}, tensors, list(keys))))  # type: ignore[call-overload]
    return path


class Calls:
    """Pickled, it asks to be read by calling ``print``."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("called",))


def test_file_that_would_call_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="print"):
        read_tensors(torch_file(tmp_path, {"weight": Calls()}))
    assert capsys.readouterr().out == ""


def test_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(pickle.dumps(1) + struct.pack("<q", 1))
    with pytest.raises(ValueError, match="PyTorch"):
        read_tensors(tmp_path / "other")


# --- speech: where it is ------------------------------------------------------------------------------------------------


def _said(*runs: tuple[float, int]) -> list[float]:
    """Likelihoods of so many windows each."""
    return list(itertools.chain.from_iterable([likelihood] * windows for likelihood, windows in runs))


@pytest.mark.parametrize(
    ("runs", "windows"),
    [
        pytest.param([(0.0, 50)], [], id="silence"),
        pytest.param([(0.0, 10), (0.9, 20), (0.0, 10)], [(10, 30)], id="one stretch"),
        pytest.param([(0.9, 20)], [(0, 20)], id="from beginning to end"),
        pytest.param([(0.0, 10), (0.9, 4), (0.0, 10)], [], id="a cough"),
        pytest.param([(0.9, 10), (0.0, 2), (0.9, 10)], [(0, 22)], id="a breath"),
        pytest.param([(0.9, 10), (0.0, 20), (0.9, 10)], [(0, 10), (30, 40)], id="a pause"),
        pytest.param([(0.9, 10), (0.4, 20), (0.9, 10)], [(0, 40)], id="a mumble between"),
        pytest.param([(0.4, 40)], [], id="mumbling alone"),
    ],
)
def test_stretches_of_speech(runs: list[tuple[float, int]], windows: list[tuple[int, int]]) -> None:
    likelihoods = _said(*runs)
    found = stretches(likelihoods, len(likelihoods) * STEP_S, NO_PADS)
    assert found == [pytest.approx((start * STEP_S, end * STEP_S)) for start, end in windows]


@given(st.lists(st.sampled_from([0.0, 0.4, 0.9]), max_size=200), st.floats(0.0, 0.5))
def test_stretches_are_in_order_within_the_recording_and_never_touch(likelihoods: list[float], pad_s: float) -> None:
    duration_s = len(likelihoods) * STEP_S
    found = stretches(likelihoods, duration_s, Options(pad_s=pad_s))
    places = [0.0, *itertools.chain.from_iterable(found), duration_s]
    assert places == sorted(places)
    assert all(start < end for start, end in found)
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(found))


# --- speech: what is spoken at once -------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.text(st.sampled_from("a7é水 <>.!\n\x00") | st.characters(), max_size=1_500))
@example('hello <play file="/etc/secret.wav"/>')
def test_every_letter_is_spoken_once_and_no_command_of_the_engine(text: str) -> None:
    pieces = list(sentences(text))
    assert all(0 < len(piece) <= PIECE_CHARS for piece in pieces)
    assert not any(sign in piece for piece in pieces for sign in "<>\x00")
    letters = [character for character in text if character.isalnum()]
    assert [character for piece in pieces for character in piece if character.isalnum()] == letters
