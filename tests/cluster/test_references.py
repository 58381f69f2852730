"""Reference images: what is too large is refused before it is decoded."""

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.references import read_reference


def png_of(path: Path, width: int, height: int, data: bytes = b"") -> Path:
    """A PNG that claims a size, and holds what it is given."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_an_image_is_read_as_colours(tmp_path):
    pixels = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_reference(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_other_kinds_are_read_whatever_they_are_named(tmp_path, kind):
    Image.new("RGB", (10, 12), (200, 0, 0)).save(tmp_path / "a.png", kind)
    assert read_reference(tmp_path / "a.png").shape == (12, 10, 3)


def test_what_is_transparent_becomes_white(tmp_path):
    pixels = np.zeros((12, 10, 4), np.uint8)
    pixels[:6, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = read_reference(tmp_path / "a.png")
    assert read.shape == (12, 10, 3)
    assert read[0].max() == 0
    assert read[-1].min() == 255


def test_a_huge_image_is_refused_by_its_header(tmp_path):
    started = time.monotonic()
    with pytest.raises(ValueError, match="40000 x 40000 pixels; at most 8192"):
        read_reference(png_of(tmp_path / "huge.png", 40_000, 40_000))
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(("width", "height"), [(8193, 10), (5000, 5000), (4, 100)])
def test_sizes_have_limits(tmp_path, width, height):
    with pytest.raises(ValueError, match="pixels"):
        read_reference(png_of(tmp_path / "a.png", width, height))


def test_a_text_file_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("I am a picture")
    with pytest.raises(ValueError, match="no PNG"):
        read_reference(tmp_path / "a.png")


def test_a_broken_image_is_told(tmp_path):
    with pytest.raises(ValueError, match="is damaged"):
        read_reference(png_of(tmp_path / "a.png", 100, 100, b"too little"))
    with pytest.raises(ValueError, match="not a file"):
        read_reference(tmp_path / "nothing.png")


def test_other_formats_are_not_even_tried(tmp_path):
    Image.new("RGB", (10, 10)).save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").rename(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no PNG"):
        read_reference(tmp_path / "a.png")


def test_a_photo_is_read_as_it_is_shown(tmp_path):
    """A camera held upright writes lying pixels, and how to turn them."""
    pixels = np.zeros((12, 20, 3), np.uint8)
    pixels[:, :10] = 255
    turned = Image.Exif()
    turned[0x0112] = 6
    for kind in ("png", "jpeg", "webp"):
        Image.fromarray(pixels).save(tmp_path / "a", kind, exif=turned, lossless=True)
        read = read_reference(tmp_path / "a")
        assert read.shape == (20, 12, 3)
        assert read[:9].min() > 200
        assert read[11:].max() < 50
    grey = Image.fromarray(pixels[..., 0]).convert("LA")
    grey.save(tmp_path / "a", "png", exif=turned)
    assert read_reference(tmp_path / "a").shape == (20, 12, 3)
