"""Reference images of characters: told by their bytes, checked by their headers, then read."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

# Not Image.open: it tries what a file is not, and other libraries put their own in its place.
_READERS: tuple[tuple[bytes, int, Any], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", 0, JpegImagePlugin.JpegImageFile),
    (b"WEBP", 8, WebPImagePlugin.WebPImageFile),
)
MAX_BYTES = 32 << 20
MAX_SIDE_PX = 8192
MAX_PIXELS = 16_000_000
MIN_SIDE_PX = 8
_ALLOWED = f"at most {MAX_SIDE_PX} a side and {MAX_PIXELS:,} in all"


def read_reference(path: Path) -> NDArray[np.uint8]:
    """An image as uint8 (H, W, 3). Raises `ValueError` on anything but a sound image within
    the limits; what is too large is refused before a pixel is decoded."""
    what = f"reference image {path}"
    if not path.is_file():
        raise ValueError(f"{what} is not a file")
    with path.open("rb") as stream:
        return check_image(stream.read(MAX_BYTES + 1), what)


def check_image(content: bytes, what: str) -> NDArray[np.uint8]:
    """Likewise for an image's bytes; ``what`` is what messages call it."""
    if len(content) > MAX_BYTES:
        raise ValueError(f"{what} is larger than {MAX_BYTES >> 20} MiB")
    reader = _reader_of(content, what)
    try:
        with reader(BytesIO(content)) as image:
            _check_size(what, image.size)
            return np.asarray(_flat(image), dtype=np.uint8)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{what} has too many pixels; {_ALLOWED}") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{what} is damaged: {error}") from error


def _reader_of(content: bytes, what: str) -> Any:
    for signature, offset, reader in _READERS:
        if content.startswith(signature, offset):
            return reader
    raise ValueError(f"{what} is no PNG, JPEG or WebP image")


def _check_size(what: str, size: tuple[int, int]) -> None:
    width, height = size
    if max(size) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        raise ValueError(f"{what} has {width} x {height} pixels; {_ALLOWED}")
    if min(size) < MIN_SIDE_PX:
        raise ValueError(f"{what} has {width} x {height} pixels; at least {MIN_SIDE_PX} a side")


def _flat(image: Any) -> Any:
    """RGB of 8 bits, turned as it says it is shown; what is transparent becomes white."""
    clear = image.info.get("transparency")
    if isinstance(clear, int | tuple) and image.tile:  # without, it is damaged
        image.info["transparency"] = _as_read(clear, image.tile[0].args)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = _of_deep_grey(np.asarray(image), clear)
    if image.mode in {"RGBA", "LA", "P"} or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, coloured).convert("RGB")
    return image.convert("RGB")


def _as_read(clear: Any, kind: str) -> Any:
    """A PNG's transparent colour among colours as Pillow reads them from this kind; it leaves it in
    the file's depth."""
    if kind == "RGB;16B":
        return tuple(value >> 8 for value in clear)
    return clear * {"L;2": 85, "L;4": 17}.get(kind, 1)


def _of_deep_grey(values: NDArray[Any], clear: int | None) -> Image.Image:
    """Grey of 16 bits as 8 of grey and 8 of alpha; Pillow itself cuts off what is above 255."""
    alpha = np.where(values == clear, 0, 255)
    return Image.fromarray(np.stack([values >> 8, alpha], axis=-1).astype(np.uint8))
