"""Images as models take them: decoded within bounds, upright, red, green and blue.

A decoder is where hostile bytes meet C code, so it gets little room. Only formats of a closed list are opened, each by the one decoder that
its first bytes name; the size is read from the header and judged before a pixel is decoded; a file of several images is refused, as nobody said which
is meant. Where a few bytes can ask for minutes of work, they are counted first: a decoder that is at work cannot be stopped but with its process. What
fails here fails for its own job alone.
"""

import re
import warnings
from io import BytesIO

from PIL import ExifTags, Image, UnidentifiedImageError

from domain.contracts import Blob
from domain.failures import ImageTooLarge, InvalidImage
from workers.image_pieces import check_pieces

MAX_PIXELS = 50_000_000  # what telephones take: 48 million; Pillow keeps 4 bytes of each: 200 MB, and twice that while it is read
DECODERS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/gif": "GIF",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
}
# A progressive JPEG may go over all of its pixels again with every scan of 20 bytes; encoders make ten or so. libjpeg takes a scan's head only if it
# is of this form, and data that are compressed never are. Pillow copies all EXIF data that it has for each further piece; cameras write one.
_COSTLY = re.compile(rb"\xff\xda\x00[\x08\x0a\x0c\x0e][\x01-\x04]|Exif\x00\x00")
MAX_COSTLY = 100
MAX_EXIF_BYTES = 65_536  # what fits into a JPEG; PNG and WebP hold megabytes, and an orientation of millions of fractions took 12 s
_DEEP_GREY = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF 2.3, tag Orientation


def read_image(blob: Blob, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes an image.

    Args:
        blob: the content; its type must be what the content was found to be.
        max_pixels: width times height that are decoded at most.

    Returns:
        It in mode RGB, turned as its EXIF data say; what is transparent is white.

    Raises:
        ImageTooLarge: before anything was decoded.
        InvalidImage: it is damaged, cut off, empty, of another format than it was found to be, or of pixels that are no colours.
        UnsupportedFormat: it holds several images, as animations do.
        MemoryError: it does not fit.
    """
    decoder = DECODERS.get(blob.content_type)
    if decoder is None:
        raise InvalidImage(f"the content is {blob.content_type}, no image that is read here")
    if decoder == "JPEG" and len(_COSTLY.findall(blob.content)) > MAX_COSTLY:
        raise InvalidImage(f"the JPEG image has over {MAX_COSTLY} scans or pieces of EXIF data")
    check_pieces(blob)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes that are judged here
            with Image.open(BytesIO(blob.content), formats=[decoder]) as image:
                _judge(image.size, max_pixels)
                image.load()
                return _upright(_colours(image), image)
    except (InvalidImage, ImageTooLarge, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f"more than {max_pixels:,} pixels") from error
    except UnidentifiedImageError as error:
        raise InvalidImage(f"the {decoder} image's header cannot be read") from error
    except Exception as error:  # decoders raise what they like: OSError, SyntaxError, struct.error, zlib.error, …
        raise InvalidImage(f"the {decoder} image is damaged or cut off") from error  # their words are of streams, addresses and internal codes


def _judge(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageTooLarge(f"{width:,} × {height:,} pixels; at most {max_pixels:,} in all are decoded")
    if width < 1 or height < 1:
        raise InvalidImage("an image without a pixel")


def _colours(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP_GREY:
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if image.mode in {"I", "F"}:
        raise InvalidImage(f"pixels of mode {image.mode} are measurements, not colours")
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        seen: Image.Image = image if image.mode == "RGBA" else image.convert("RGBA")
        page = Image.new("RGB", seen.size, "white")
        page.paste(seen, mask=seen)  # alpha_composite would hold four such images at a time, 800 MB of the largest
        return page
    return image.convert("RGB")


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """Turns the pixels as the image's EXIF data say."""
    turn = _TURNS.get(_orientation(image))
    return pixels if turn is None else pixels.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """What the EXIF data say; data that cannot be read, or are longer than cameras can write, say nothing: 1."""
    try:
        if len(image.info.get("exif", b"")) > MAX_EXIF_BYTES:
            return 1
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - as with pixels, decoders raise what they like
        return 1
