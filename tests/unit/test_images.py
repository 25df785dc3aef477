"""Reading images: what is taken comes out upright and in colour, what is hostile fails by its own code."""

import contextlib
import re
import struct
import time
import zlib
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from domain.contracts import Blob
from domain.failures import ImageTooLarge, InferenceError, InvalidImage, UnsupportedFormat
from tests.fixtures.hostile import BOMB, gif, png
from workers.images import read_image

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, form: str, **options: Any) -> Blob:
    written = BytesIO()
    image.save(written, format=form, **options)
    return Blob(written.getvalue(), f"image/{form.lower()}")


def two_colours(mode: str = "RGB") -> Image.Image:
    """Red above, blue below; 8 × 4 pixels."""
    image = Image.new("RGB", (8, 4), RED)
    image.paste(BLUE, (0, 2, 8, 4))
    return image.convert(mode)


JPEG = encoded(two_colours().resize((64, 64)), "JPEG")
SCANS = encoded(two_colours().resize((64, 64)), "JPEG", progressive=True).content
PNG = encoded(Image.effect_noise((64, 64), 50), "PNG")
GIF = encoded(Image.new("P", (4, 4)), "GIF")


@pytest.mark.parametrize(
    ("blob", "error"),
    [
        pytest.param(BOMB, ImageTooLarge, id="50,000 × 50,000 PNG"),
        pytest.param(png(2**31 - 1, 2**31 - 1), ImageTooLarge, id="PNG as large as can be said"),
        pytest.param(Blob(GIF.content[:6] + b"\xff\xff\xff\xff" + GIF.content[10:], "image/gif"), ImageTooLarge, id="65,535 × 65,535 GIF"),
        pytest.param(Blob(PNG.content[: len(PNG.content) // 2], "image/png"), InvalidImage, id="PNG cut off"),
        pytest.param(Blob(JPEG.content[: len(JPEG.content) // 2], "image/jpeg"), InvalidImage, id="JPEG cut off"),
        pytest.param(Blob(PNG.content[:20], "image/png"), InvalidImage, id="PNG cut off in its header"),
        pytest.param(png(0, 4), InvalidImage, id="no width"),
        pytest.param(png(64, 64), InvalidImage, id="pixels missing"),
        pytest.param(Blob(b"", "image/png"), InvalidImage, id="nothing"),
        pytest.param(Blob(b"\x89PNG\r\n\x1a\nhello", "image/png"), InvalidImage, id="text that begins as PNG"),
        pytest.param(Blob(JPEG.content, "image/png"), InvalidImage, id="JPEG that was taken for PNG"),
        pytest.param(Blob(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), InvalidImage, id="SVG"),
        pytest.param(encoded(Image.new("F", (4, 4)), "TIFF"), InvalidImage, id="measurements"),
        pytest.param(Blob(SCANS[:-2] + SCANS[SCANS.rindex(b"\xff\xda") : -2] * 200, "image/jpeg"), InvalidImage, id="JPEG of 200 scans"),
        pytest.param(Blob(JPEG.content[:2] + b"\xff\xe1\x00\x09Exif\x00\x00x" * 200 + JPEG.content[2:], "image/jpeg"), InvalidImage, id="EXIF in 200 pieces"),
    ],
)
def test_hostile_image_fails_by_its_own_code(blob: Blob, error: type[InferenceError]) -> None:
    with pytest.raises(error) as raised:
        read_image(blob)
    assert len(raised.value.message) <= 200
    assert not re.search(r"[<>]|0x|-\d", raised.value.message)  # no object, no code: nothing that a decoder's own words hold


def test_image_of_as_many_pixels_as_may_be_is_read_and_of_one_more_is_not() -> None:
    blob = encoded(Image.new("L", (10, 10)), "PNG")
    assert read_image(blob, max_pixels=100).size == (10, 10)
    with pytest.raises(ImageTooLarge, match="10 × 10"):
        read_image(blob, max_pixels=99)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_comes_out_as_colours(mode: str) -> None:
    source = Image.new("I;16", (2, 2), 65_535) if mode == "I;16" else Image.new("RGB", (2, 2), WHITE).convert(mode)
    image = read_image(encoded(source, "PNG"))
    assert (image.mode, image.getpixel((1, 1))) == ("RGB", WHITE)


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_every_format_is_read(form: str) -> None:
    image = read_image(encoded(two_colours(), form, **({"lossless": True} if form == "WEBP" else {})))
    assert (image.getpixel((1, 0)), image.getpixel((1, 3))) == (RED, BLUE)


def test_progressive_photograph_is_read() -> None:
    assert read_image(Blob(SCANS, "image/jpeg")).size == (64, 64)


def test_what_is_transparent_is_white() -> None:
    assert read_image(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "PNG")).getpixel((0, 0)) == WHITE
    assert read_image(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 128)), "PNG")).getpixel((0, 0)) == (255, 127, 127)


def test_photograph_is_turned_as_its_camera_was() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned left: what is above is at the right
    image = read_image(encoded(two_colours(), "PNG", exif=exif))
    assert image.size == (4, 8)
    assert (image.getpixel((3, 4)), image.getpixel((0, 4))) == (RED, BLUE)


def test_broken_exif_hurts_nothing() -> None:
    assert read_image(encoded(two_colours(), "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")).size == (8, 4)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_very_long_exif_is_not_looked_into(form: str) -> None:
    directory = struct.pack("<HHHII", 1, 0x0112, 5, 50_000, 26) + bytes(4)
    blob = encoded(two_colours(), form, exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + directory + b"\x01\x00\x00\x00" * 100_000)
    began_s = time.process_time()
    assert read_image(blob).size == (8, 4)
    took_s = time.process_time() - began_s
    with Image.open(BytesIO(blob.content)) as image:
        image.getexif().get(0x0112)  # Pillow makes fractions of them
    assert took_s < (time.process_time() - began_s - took_s) / 3


@pytest.mark.parametrize("step", ["transpose", "getexif"])
def test_image_that_cannot_be_turned_for_want_of_memory_is_not_read_as_it_lies(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def no_room(*_: object) -> None:
        raise MemoryError

    exif = Image.Exif()
    exif[0x0112] = 6
    blob = encoded(two_colours(), "PNG", exif=exif)
    monkeypatch.setattr(Image.Image, step, no_room)
    with pytest.raises(MemoryError):
        read_image(blob)


def frames(form: str, count: int, **options: Any) -> Blob:
    others = [Image.new("RGB", (8, 4), (0, number + 1, 0)) for number in range(count - 1)]
    return encoded(two_colours(), form, save_all=True, append_images=others, **options)


@pytest.mark.parametrize("blob", [gif(10_000), *(frames(form, 2) for form in ("GIF", "PNG", "WEBP", "TIFF"))], ids=lambda blob: blob.content_type)
def test_file_of_several_images_is_refused(blob: Blob) -> None:
    with pytest.raises(UnsupportedFormat, match="several images"):
        read_image(blob)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_file_that_could_hold_several_images_and_holds_one_is_read(form: str) -> None:
    blob = frames(form, 1, **({"lossless": True} if form == "WEBP" else {}))
    assert read_image(Blob(blob.content, "image/jpeg") if form == "MPO" else blob).size == (8, 4)


def test_animation_of_one_frame_is_read() -> None:
    assert read_image(gif(1)).size == (1, 1)
    webp = frames("WEBP", 2).content
    second = webp.rindex(b"ANMF")
    assert read_image(Blob(webp[:4] + (second - 8).to_bytes(4, "little") + webp[8:second], "image/webp")).size == (8, 4)


def test_photograph_with_a_preview_beside_it_is_read() -> None:
    assert read_image(Blob(frames("MPO", 2).content, "image/jpeg")).size == (8, 4)


def strips(count: int, *, kind: int = 4, more: tuple[tuple[int, int, int, int], ...] = ()) -> bytes:
    """A TIFF of as many strips of one pixel."""
    tags = [(256, 4, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, kind, count, 200), (277, 3, 1, 1), (278, 4, 1, 1)]
    tags += more
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return (b"II*\x00\x08\x00\x00\x00" + directory).ljust(200, b"\x00") + bytes(4 * count)


def run_lengths(size: int, *, offset: int = 1_078, run: bytes = b"\x01\x01", pixels: int = 1) -> bytes:
    """A BMP of runs of one pixel, or of so many."""
    header = struct.pack("<IIIHHIIIIII", 40, size // len(run) * pixels, 1, 1, 8, 1, size, 0, 0, 256, 0)
    return b"BM" + struct.pack("<III", 1_078 + size, 0, offset) + header + b"\x00\x01" * 512 + run * (size // len(run))


MANY = 130_000


@pytest.mark.parametrize(
    "blob",
    [
        pytest.param(png(8, 8, *[(b"heLp", b"")] * MANY), id="PNG"),
        pytest.param(Blob(JPEG.content[:2] + b"\xff\xfe\x00\x02" * MANY + JPEG.content[2:], "image/jpeg"), id="JPEG segments"),
        pytest.param(Blob(JPEG.content[:2] + b"\xff" * MANY + JPEG.content[2:], "image/jpeg"), id="JPEG filled up"),
        pytest.param(Blob(JPEG.content[:2] + b"\xff\x00" * MANY + JPEG.content[2:], "image/jpeg"), id="JPEG of escapes"),
        pytest.param(Blob(JPEG.content[:4] + b"\x00\x02" + bytes(MANY) + JPEG.content[2:], "image/jpeg"), id="JPEG of noughts"),
        pytest.param(Blob(gif(0).content[:19] + b"!\xfe\x01a\x00" * MANY + gif(1).content[19:], "image/gif"), id="GIF comments"),
        pytest.param(Blob(gif(0).content[:19] + b"!\xfe" + b"\x01a" * MANY + b"\x00" + gif(1).content[19:], "image/gif"), id="one GIF comment"),
        pytest.param(Blob(gif(0).content[:19] + bytes(MANY) + gif(1).content[19:], "image/gif"), id="GIF of noughts"),
        pytest.param(Blob(b"RIFF\xff\xff\xff\x00WEBP" + b"junk\x00\x00\x00\x00" * MANY, "image/webp"), id="WebP"),
        pytest.param(Blob(run_lengths(MANY * 16), "image/bmp"), id="BMP"),
        pytest.param(Blob(run_lengths(MANY * 16, offset=0), "image/bmp"), id="BMP of no place"),
        pytest.param(Blob(run_lengths(MANY * 16, offset=54), "image/bmp"), id="BMP whose palette says that it ends"),
        pytest.param(Blob(run_lengths(4, run=b"\x01\x01\x00\x00", pixels=10**7), "image/bmp"), id="BMP of a row to be filled"),
        pytest.param(Blob(strips(MANY), "image/tiff"), id="TIFF"),
        pytest.param(Blob(strips(MANY, kind=1), "image/tiff"), id="TIFF of strips at bytes"),
        pytest.param(Blob(strips(1, more=((274, 5, MANY, 200),)) + bytes(8 * MANY), "image/tiff"), id="TIFF of fractions"),
        pytest.param(Blob(strips(1, more=((274, 3, MANY * 16, 200),)) + bytes(32 * MANY), "image/tiff"), id="TIFF of numbers"),
    ],
)
def test_image_file_of_very_many_pieces_is_not_decoded(blob: Blob) -> None:
    with pytest.raises(InvalidImage, match="over 120,000 pieces"):
        read_image(blob)


def test_large_gif_of_one_image_has_not_too_many_pieces() -> None:
    assert read_image(encoded(Image.effect_noise((1_500, 1_500), 90).convert("P"), "GIF")).size == (1_500, 1_500)


def test_compressed_bitmap_is_read() -> None:
    assert read_image(Blob(run_lengths(1_000), "image/bmp")).size == (500, 1)
    assert read_image(Blob(strips(100), "image/tiff")).size == (1, 100)


def test_large_bitmap_of_few_runs_is_read() -> None:
    literal = b"\x00\xfe" + bytes(254)
    assert read_image(Blob(run_lengths(256 * 10_000, run=literal, pixels=254), "image/bmp")).size == (2_540_000, 1)


def test_tiff_with_a_transfer_function_is_read() -> None:
    assert read_image(Blob(strips(1, more=((301, 3, 3 * 65_536, 200),)) + bytes(6 * 65_536), "image/tiff")).size == (1, 1)


def test_metadata_that_unpack_into_megabytes_are_refused() -> None:
    body = b"k\x00\x00" + zlib.compress(bytes(2_000_000), 9)  # Pillow keeps a megabyte of a text
    with pytest.raises(InvalidImage):
        read_image(png(8, 8, (b"zTXt", body)))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([PNG, JPEG, GIF]), st.data())
def test_damaged_image_is_read_or_refused_and_nothing_else(blob: Blob, data: st.DataObject) -> None:
    content = bytearray(blob.content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidImage, ImageTooLarge):
        assert read_image(Blob(bytes(content), blob.content_type), max_pixels=1_000_000).mode == "RGB"
