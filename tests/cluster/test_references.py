"""Reference images: what is too large is refused before it is decoded."""

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.references import read_reference

GREY, COLOUR = 0, 2
"""Kinds of PNG."""


def png_of(path: Path, width: int, height: int, data: bytes = b"") -> Path:
    """A PNG that claims a size, and holds what it is given."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return write_png(path, (b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))


def write_png(path: Path, *chunks: tuple[bytes, bytes]) -> Path:
    written = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    return path


def deep_png(path: Path, kind: int, depth: int, row: bytes, clear: bytes = b"") -> Path:
    """A PNG of 8 x 8 pixels, each row of these bytes; ``clear`` is its transparent colour."""
    header = struct.pack(">IIBBBBB", 8, 8, depth, kind, 0, 0, 0)
    pixels = zlib.compress((b"\0" + row) * 8)
    transparent = [(b"tRNS", clear)] if clear else []
    return write_png(path, (b"IHDR", header), *transparent, (b"IDAT", pixels), (b"IEND", b""))


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
    header = struct.pack(">IIBBBBB", 8, 8, 8, GREY, 0, 0, 0)
    empty = write_png(tmp_path / "a.png", (b"IHDR", header), (b"tRNS", b"\0\1"), (b"IEND", b""))
    with pytest.raises(ValueError, match="is damaged"):
        read_reference(empty)
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


@pytest.mark.parametrize("kind", [GREY, COLOUR])
def test_sixteen_bits_become_eight(tmp_path, kind):
    channels = 1 if kind == GREY else 3
    shades = [0, 256, 0x4000, 0x80C0, 0xC000, 0xFF00, 0xFFFF, 1]
    row = struct.pack(f">{8 * channels}H", *np.repeat(shades, channels))
    read = read_reference(deep_png(tmp_path / "a.png", kind, 16, row))
    assert read.shape == (8, 8, 3)
    for channel in range(3):
        assert read[0, :, channel].tolist() == [0, 1, 64, 128, 192, 255, 255, 0]


@pytest.mark.parametrize(("mode", "clear"), [("RGB", (0, 0, 9)), ("L", 7), ("1", 0)])
def test_a_transparent_colour_becomes_white(tmp_path, mode, clear):
    image = Image.new(mode, (10, 12), clear)
    shown = (200, 10, 10) if mode == "RGB" else 1
    image.paste(shown, (0, 0, 10, 6))
    image.save(tmp_path / "a.png", transparency=clear)
    read = read_reference(tmp_path / "a.png")
    assert read.shape == (12, 10, 3)
    assert read[6:].min() == 255
    np.testing.assert_array_equal(read[:6], np.asarray(image.convert("RGB"))[:6])


@pytest.mark.parametrize(
    ("kind", "depth", "row", "clear", "shown"),
    [
        (GREY, 2, b"\x55\xaa", b"\0\1", 170),
        (GREY, 4, b"\x11\x11\xaa\xaa", b"\0\1", 170),
        (GREY, 16, b"\x12\x34" * 4 + b"\x12\x35" * 4, b"\x12\x34", 0x12),
        (COLOUR, 16, b"\x12\x34" * 12 + b"\xa0\x34" * 12, b"\x12\x34" * 3, 0xA0),
    ],
)
def test_a_transparent_colour_is_told_in_the_depth_of_the_file(
    tmp_path, kind, depth, row, clear, shown
):
    read = read_reference(deep_png(tmp_path / "a.png", kind, depth, row, clear))
    assert read[:, :4].min() == 255
    assert np.unique(read[:, 4:]).tolist() == [shown]


def test_a_transparent_colour_turns_with_its_picture(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    for mode, dtype in (("L", np.uint8), ("I;16", np.uint16)):
        pixels = np.zeros((12, 20), dtype)
        pixels[:, :10] = 50 if mode == "L" else 50 << 8
        image = Image.fromarray(pixels)
        assert image.mode == mode
        image.save(tmp_path / "a.png", exif=turned, transparency=0)
        read = read_reference(tmp_path / "a.png")
        assert read.shape == (20, 12, 3)
        assert np.unique(read[:10]).tolist() == [50]
        assert np.unique(read[10:]).tolist() == [255]
