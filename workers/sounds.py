"""Recordings as models take them: decoded within bounds, one channel, 16,000 samples a second.

FFmpeg reads a hundred formats, which is a hundred ways in. So it is told which one to expect (what the first bytes say), opens no other, no
codec beyond a short list, and no file but the bytes it is given, without metadata where they can be left out. What the header claims (sample rate,
channels, length) is judged before anything is decoded, and the decoded samples are counted, for a header may lie. What fails here fails for its own
job alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from domain.contracts import Blob
from domain.failures import AudioTooLong, InvalidAudio
from workers.sound_pieces import sound_of, wav_of_sound

RATE = 16_000  # samples a second: what every speech model here was trained on
MAX_CHANNELS = 8
RATES = range(4_000, 192_001)
DEMUXERS = {"audio/wav": "wav", "audio/flac": "flac", "audio/mpeg": "mp3", "audio/ogg": "ogg", "audio/mp4": "mp4", "audio/webm": "webm"}
CODECS = frozenset({
    *(f"pcm_{kind}" for kind in ("u8", "s16le", "s24le", "s32le", "f32le", "f64le", "alaw", "mulaw")),
    *("flac", "alac", "mp3", "mp3float", "aac", "vorbis", "opus", "libopus", "libvorbis"),
})  # fmt: skip
SAYS_ITS_LENGTH = frozenset({"audio/wav", "audio/flac", "audio/mp4"})  # the others' is an estimate
SLACK = 0.02  # how much of a length may be missing: encoders pad, and count in frames
_AV_TIME_BASE = 1_000_000


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording.

    Attributes:
        samples: one channel of 16-bit samples, ``RATE`` a second; one or more.
    """

    samples: NDArray[np.int16]

    @property
    def duration_s(self) -> float:
        """Its length."""
        return len(self.samples) / RATE

    @property
    def floats(self) -> NDArray[np.float32]:
        """The samples from −1 to 1."""
        return np.multiply(self.samples, 1 / 32_768, dtype=np.float32)  # at once: an hour is 230 MB


def read_sound(blob: Blob, *, max_s: float) -> Sound:
    """Decodes a recording.

    Args:
        blob: the content; its type must be what the content was found to be.
        max_s: a longer one is refused, by its header before it is decoded, else as soon as so much has been decoded.

    Raises:
        AudioTooLong: it is longer.
        InvalidAudio: it is damaged, cut off, empty, of another format than it was found to be, of a codec that is not read here, or its
            header names an impossible sample rate or number of channels.
        MemoryError: it does not fit.
    """
    demuxer = DEMUXERS.get(blob.content_type)
    if demuxer is None:
        raise InvalidAudio(f"the content is {blob.content_type}, no audio that is read here")
    content, claimed_s = wav_of_sound(blob.content) if demuxer == "wav" else (sound_of(blob), 0.0)
    if claimed_s > max_s:
        raise _too_long(claimed_s, max_s)
    options = {"format_whitelist": demuxer, "codec_whitelist": ",".join(sorted(CODECS))}
    try:
        with av.open(BytesIO(content), format=demuxer, metadata_errors="ignore", options=options) as container:
            stream = _audio_of(container)
            claimed_s = max(claimed_s, _judge(container, stream, max_s))
            samples = _decode(container, stream, max_s)
    except (InvalidAudio, AudioTooLong, MemoryError):
        raise
    except Exception as error:  # FFmpeg's errors are of many classes: OSError, ValueError, EOFError, …
        raise InvalidAudio(f"the {demuxer} audio is damaged or cut off, or no {demuxer} at all") from error  # their words are of codes and streams
    sound = Sound(samples)
    if blob.content_type in SAYS_ITS_LENGTH and sound.duration_s < claimed_s * (1 - SLACK) - 0.1:
        raise InvalidAudio(f"cut off: its header promises {claimed_s:.1f} s, {sound.duration_s:.1f} s are there")
    return sound


def _too_long(claimed_s: float, max_s: float) -> AudioTooLong:
    return AudioTooLong(f"{claimed_s:,.0f} s by its header; at most {max_s:g} s are taken")


def _audio_of(container: Any) -> Any:
    if not container.streams.audio:
        raise InvalidAudio("there is no audio in it")
    return container.streams.audio[0]


def _judge(container: Any, stream: Any, max_s: float) -> float:
    """Judges what the header says; returns the length it claims, 0 where it claims none."""
    codec = stream.codec_context
    if codec is None or codec.name not in CODECS:
        raise InvalidAudio(f"its codec {codec.name if codec else 'unknown'} is not read here")
    if codec.sample_rate not in RATES:
        raise InvalidAudio(f"a sample rate of {codec.sample_rate:,} Hz; from {RATES.start:,} to {RATES.stop - 1:,} are read")
    if not 1 <= codec.channels <= MAX_CHANNELS:
        raise InvalidAudio(f"{codec.channels} channels; 1 to {MAX_CHANNELS} are read")
    claimed_s = max((container.duration or 0) / _AV_TIME_BASE, float((stream.duration or 0) * (stream.time_base or 0)))
    if claimed_s > max_s:
        raise _too_long(claimed_s, max_s)
    codec.thread_count = 1
    return claimed_s


def _decode(container: Any, stream: Any, max_s: float) -> NDArray[np.int16]:
    pieces: list[NDArray[np.int16]] = []
    count = 0
    for piece in _pieces(container, stream):
        pieces.append(piece)
        count += len(piece)
        if count > max_s * RATE:
            raise AudioTooLong(f"at most {max_s:g} s are taken")
    if count == 0:
        raise InvalidAudio("there is not one sample in it")
    return np.concatenate(pieces)


def _pieces(container: Any, stream: Any) -> Iterator[NDArray[np.int16]]:
    """The samples, resampled and mixed to one channel; a packet that is damaged is left out unless most are."""
    resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
    good = bad = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            bad += 1
            continue
        for frame in frames:
            good += 1
            for mixed in resampler.resample(frame):
                yield mixed.to_ndarray()[0]
    if bad > good:
        raise InvalidAudio(f"{bad} of its {good + bad} packets are damaged")
    if good:
        for mixed in resampler.resample(None):
            yield mixed.to_ndarray()[0]
