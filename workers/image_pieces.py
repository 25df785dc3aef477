"""The pieces of an image file, counted before a decoder sees it.

Pillow goes through headers in Python, microseconds a piece: a file of 25 MiB that is nothing but pieces of a few bytes took it up to a minute. It is
as lenient about what lies between pieces as the walks here are, each byte of which counts as one. Where a file is cut off its walk ends, and the
decoder says what is wrong.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import repeat

from domain.contracts import Blob
from domain.failures import InvalidImage, UnsupportedFormat

MAX_PIECES = 120_000  # a GIF image of 25 MiB has 103,000 blocks; no other format comes near; the costliest, strips of TIFF, take 1.2 s
_BMP_RUN_LENGTHS = {1, 2}
_RUNS_A_PIECE = 8  # a run costs an eighth of a piece
_PIXELS_A_PIECE = 48  # of those that are appended one by one: in runs of two pixels a byte, and to fill a row that ends early
_TIFF_BYTES = {1, 2, 6, 7}  # types of values that are taken as they are, however many
_TIFF_FRACTIONS = {5, 10}
_TIFF_PARTS = {273, 279, 324, 325}  # where strips and tiles are, and their lengths: each is a piece, of whatever type
_NUMBERS_A_PIECE = 16
_JPEG_ALONE = {0x01, *range(0xD0, 0xDA)}  # markers without a length


def check_pieces(blob: Blob) -> None:
    """Judges how an image file is made up.

    Raises:
        InvalidImage: it has too many pieces to be read.
        UnsupportedFormat: it holds several images: the frames of an animation, or pages. JPEG files may: what cameras add to a photograph is no other one.
    """
    images = 0
    with suppress(IndexError):
        for number, more in enumerate(_WALKS[blob.content_type](blob.content)):
            if number >= MAX_PIECES:
                raise InvalidImage(f"the image file is made of over {MAX_PIECES:,} pieces")
            images += more
            if images > 1:
                raise UnsupportedFormat("the file holds several images (an animation, or pages); an image of one is taken")


def _png(content: bytes) -> Iterator[int]:
    place, kind = 8, b""
    while place + 8 <= len(content) and kind != b"IEND":
        size, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        yield int.from_bytes(content[place + 8 : place + 12]) if kind == b"acTL" else 0
        place += 12 + size


def _jpeg(content: bytes) -> Iterator[int]:
    """As far as the first scan: from there on it is the decoder's, which is quick."""
    place = 2
    while content[place : place + 2] != b"\xff\xda":
        yield 0
        marker = content[place + 1]
        if content[place] != 0xFF or marker == 0xFF:
            place += 1
        elif marker == 0 or marker in _JPEG_ALONE:
            place += 2
        else:
            place += 2 + max(2, int.from_bytes(content[place + 2 : place + 4]))


def _gif(content: bytes) -> Iterator[int]:
    place = 13 + _palette_bytes(content[10])
    while (kind := content[place]) != 0x3B:
        yield int(kind == 0x2C)
        if kind == 0x2C:
            place += 11 + _palette_bytes(content[place + 9])
        elif kind == 0x21:
            place += 2
        else:
            place += 1
            continue
        while size := content[place]:
            yield 0
            place += 1 + size
        place += 1


def _palette_bytes(flags: int) -> int:
    return 6 << (flags & 7) if flags & 0x80 else 0


def _webp(content: bytes) -> Iterator[int]:
    place = 12
    while place + 8 <= len(content):
        yield int(content[place : place + 4] == b"ANMF")
        size = _little(content, place + 4)
        place += 8 + size + size % 2


def _bmp(content: bytes) -> Iterator[int]:
    if content[14] <= 12 or content[30] not in _BMP_RUN_LENGTHS:
        return
    place, width, pixels_a_byte = _little(content, 10), max(1, _little(content, 18)), content[30]
    if place <= 14 + _little(content, 14):  # where the pixels are is the decoder's guess then
        yield from repeat(0, len(content) // (2 * _RUNS_A_PIECE))
        return
    pixels = in_row = cost = 0
    while (run := content[place : place + 2]) != b"\x00\x01":
        place += 2
        count, value = run[0], run[1]
        one_by_one = 0
        if count:
            count = min(count, max(0, width - in_row))
            one_by_one = count if pixels_a_byte == 2 else 0
        elif value == 0:
            count = one_by_one = -pixels % width
        elif value == 2:
            count = content[place] + content[place + 1] * width
            place += 2
        else:
            count = value
            place += (value + pixels_a_byte - 1) // pixels_a_byte
            place += place % 2
        pixels += count
        in_row = 0 if run == b"\x00\x00" else pixels % width if run == b"\x00\x02" else in_row + count
        cost += _PIXELS_A_PIECE // _RUNS_A_PIECE + one_by_one
        yield from repeat(0, cost // _PIXELS_A_PIECE)
        cost %= _PIXELS_A_PIECE


def _little(content: bytes, place: int) -> int:
    return int.from_bytes(content[place : place + 4], "little")


def _tiff(content: bytes) -> Iterator[int]:
    def number(place: int, size: int) -> int:
        return int.from_bytes(content[place : place + size], "little" if content[0] == 0x49 else "big")

    place = number(4, 4)
    entries = number(place, 2)
    for entry in range(place + 2, place + 2 + 12 * entries, 12):
        tag, kind, values = number(entry, 2), number(entry + 2, 2), number(entry + 4, 4)
        if tag not in _TIFF_PARTS and kind not in _TIFF_FRACTIONS:
            values = 1 if kind in _TIFF_BYTES else values // _NUMBERS_A_PIECE
        yield from repeat(0, max(1, values))
    if number(place + 2 + 12 * entries, 4):
        yield 2


_WALKS: Mapping[str, Callable[[bytes], Iterator[int]]] = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/gif": _gif,
    "image/webp": _webp,
    "image/bmp": _bmp,
    "image/tiff": _tiff,
}
