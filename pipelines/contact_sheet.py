"""A film on one page: key frames of every scene with the planned boxes drawn in.

So that a person sees at a glance whether the film keeps to its plan. Pillow's own font has basic
Latin alone; a text with other letters is in DejaVu Sans, which has all of Latin, Greek, Cyrillic
and more. What that has not either (Chinese, Japanese, Korean, Devanagari) is drawn as empty boxes,
and what is written from right to left is drawn from left to right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pipelines.plan import KeyFrame, Scene, StoryPlan
from pipelines.video import Frames, decode

COLOURS = ("#e69f00", "#56b4e9", "#f0518f", "#35c491", "#b58cf0", "#ffe14d", "#ff7f50", "#9fb3c8")
PAPER, INK, FAINT, RULE = "#16181d", "#f2f3f5", "#9aa1ad", "#2b2f38"
FRAME_WIDTH_PX = 300
MARGIN_PX, GAP_PX = 56, 14
TITLE_PX, HEADING_PX, TEXT_PX, LABEL_PX, LINE_PX = 40, 26, 20, 16, 23
LEGEND_ROW_PX = 32

_NO_LETTER = "\uffff"

Fonts = ImageFont.ImageFont | ImageFont.FreeTypeFont


def contact_sheet(plan: StoryPlan, scene_videos: Sequence[Path], output: Path) -> None:
    """Write a PNG: the topic, who is who by colour, and per scene its narration and key frames.

    Raises `ValueError` when there is not one video a scene.
    """
    if len(scene_videos) != len(plan.scenes):
        raise ValueError(
            f"{len(scene_videos)} videos for {len(plan.scenes)} scenes; give one a scene, in order"
        )
    colours = entity_colours(plan)
    num_columns = len(plan.scenes[0].layout.key_frames)
    width = 2 * MARGIN_PX + num_columns * FRAME_WIDTH_PX + (num_columns - 1) * GAP_PX
    parts = [_header(plan, colours, width)]
    for number, (scene, video) in enumerate(zip(plan.scenes, scene_videos, strict=True), 1):
        parts.append(_scene_strip(number, scene, decode(video), colours, width))
    sheet = Image.new("RGB", (width, sum(part.height for part in parts) + MARGIN_PX // 2), PAPER)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    sheet.save(output, format="PNG", optimize=True)


def entity_colours(plan: StoryPlan) -> dict[str, str]:
    """A colour for each entity, the same in all scenes."""
    return {entity: COLOURS[i % len(COLOURS)] for i, entity in enumerate(plan.entity_ids)}


def key_frame_indices(num_frames: int, num_key_frames: int) -> list[int]:
    """The frame in the middle of each key frame's share of the clip."""
    return [int((k + 0.5) * num_frames / num_key_frames) for k in range(num_key_frames)]


def _font(text: str, size_px: int) -> Fonts:
    """One that has the letters of a text, as far as there is one here."""
    plain = all(map(_is_basic, text))
    return ImageFont.load_default(size_px) if plain else _wide_font(size_px)


@lru_cache(maxsize=4096)
def _is_basic(letter: str) -> bool:
    """Whether Pillow's own font has it."""
    font = ImageFont.load_default(TEXT_PX)
    return bytes(font.getmask(letter)) != bytes(font.getmask(_NO_LETTER))


def _wide_font(size_px: int) -> Fonts:
    """DejaVu Sans as it comes with matplotlib, which comes with ultralytics; Pillow's own without.

    Pillow's basic layout is everywhere the same, and no text is too odd for it.
    """
    try:
        import matplotlib  # late: it takes half a second, and few sheets need it

        file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
        return ImageFont.truetype(file, size_px, layout_engine=ImageFont.Layout.BASIC)
    except (ImportError, OSError):
        return ImageFont.load_default(size_px)


def _width_of(text: str, font: Fonts) -> float:
    return font.getlength(text)


def wrapped(text: str, font: Fonts, width_px: float) -> list[str]:
    """Lines no wider than ``width_px``; a longer word is broken."""
    lines = [""]
    for word in text.split():
        candidate = f"{lines[-1]} {word}".strip()
        if _width_of(candidate, font) <= width_px:
            lines[-1] = candidate
            continue
        if lines[-1]:
            lines.append("")
        while _width_of(word, font) > width_px and len(word) > 1:
            sizes = range(len(word) - 1, 1, -1)
            fits = next((n for n in sizes if _width_of(word[:n], font) <= width_px), 1)
            lines[-1:] = [word[:fits], ""]
            word = word[fits:]
        lines[-1] = word
    return lines


@dataclass
class _Pen:
    """Writes lines downwards."""

    draw: ImageDraw.ImageDraw
    top: float

    def write(self, lines: Sequence[str], size_px: int, colour: str) -> None:
        font = _font("".join(lines), size_px)
        for line in lines:
            self.draw.text((MARGIN_PX, self.top), line, font=font, fill=colour)
            self.top += round(size_px * 1.4)


def _header(plan: StoryPlan, colours: dict[str, str], width: int) -> Image.Image:
    title = wrapped(plan.topic, _font(plan.topic, TITLE_PX), width - 2 * MARGIN_PX)[:4]
    names = {r.entity_id: r.entity for s in plan.scenes for r in s.layout.regions}
    places = legend(list(names.values()), width)
    rows_px = HEADING_PX * 2 + places[-1][0] * LEGEND_ROW_PX if places else 0
    height = MARGIN_PX + round(len(title) * TITLE_PX * 1.4) + rows_px
    part = Image.new("RGB", (width, height), PAPER)
    pen = _Pen(ImageDraw.Draw(part), MARGIN_PX)
    pen.write(title, TITLE_PX, INK)
    for entity, (row, left, said) in zip(names, places, strict=True):
        top = pen.top + row * LEGEND_ROW_PX
        pen.draw.ellipse((left, top + 13, left + 14, top + 27), fill=colours[entity])
        pen.draw.text((left + 24, top + 8), said, font=_font(said, TEXT_PX), fill=INK)
    return part


def legend(names: Sequence[str], width_px: float) -> list[tuple[int, float, str]]:
    """Where each name stands: its row, from 0, and its left edge; and what fits of it there."""
    places: list[tuple[int, float, str]] = []
    row, left = 0, float(MARGIN_PX)
    for name in names:
        font = _font(name, TEXT_PX)
        said = shortened(name, font, width_px - 2 * MARGIN_PX - 24)
        needed = 24 + _width_of(said, font)
        if left > MARGIN_PX and left + needed > width_px - MARGIN_PX:
            row, left = row + 1, float(MARGIN_PX)
        places.append((row, left, said))
        left += needed + 32
    return places


def _scene_strip(
    number: int, scene: Scene, frames: Frames, colours: dict[str, str], width: int
) -> Image.Image:
    """A rule, the place, the narration, and the key frames in a row."""
    font = _font(scene.narration, TEXT_PX)
    narration = wrapped(scene.narration, font, width - 2 * MARGIN_PX)
    size = FRAME_WIDTH_PX, round(FRAME_WIDTH_PX * frames.shape[1] / frames.shape[2])
    key_frames = scene.layout.key_frames
    num_lines = max(len(key_frame.regions) for key_frame in key_frames)
    text_height = round(HEADING_PX * 1.4) + round(TEXT_PX * 1.4) * len(narration)
    height = 36 + text_height + 16 + size[1] + 8 + max(num_lines, 1) * LINE_PX + 20
    part = Image.new("RGB", (width, height), PAPER)
    pen = _Pen(ImageDraw.Draw(part), 36)
    pen.draw.line((MARGIN_PX, 12, width - MARGIN_PX, 12), fill=RULE, width=2)
    pen.write([f"{number}   {scene.place}"], HEADING_PX, INK)
    pen.write(narration, TEXT_PX, FAINT)
    top = round(pen.top) + 16
    for k, index in enumerate(key_frame_indices(len(frames), len(key_frames))):
        left = MARGIN_PX + k * (FRAME_WIDTH_PX + GAP_PX)
        part.paste(key_picture(frames[index], key_frames[k], colours, size), (left, top))
        second = f"{index * len(key_frames) / len(frames):.1f} s"
        below = left, top + size[1] + 8
        _write_key_frame(pen.draw, key_frames[k], colours, second, below)
    return part


def key_picture(
    frame: Frames, key_frame: KeyFrame, colours: dict[str, str], size: tuple[int, int]
) -> Image.Image:
    """A frame with the outlines of its planned boxes, a dark line inside each."""
    picture = Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    for region in key_frame.regions:
        left, top, right, bottom = (
            edge * (size[i % 2] - 1) for i, edge in enumerate(region.box.edges)
        )
        draw.rectangle((left, top, right, bottom), outline=PAPER, width=4)
        draw.rectangle((left, top, right, bottom), outline=colours[region.entity_id], width=3)
    return picture


def _write_key_frame(
    draw: ImageDraw.ImageDraw,
    key_frame: KeyFrame,
    colours: dict[str, str],
    second: str,
    place: tuple[int, int],
) -> None:
    """Below a picture: who does what, in the colours of the boxes, and when."""
    left, top = place
    font = _font(second, LABEL_PX)
    right = left + FRAME_WIDTH_PX - _width_of(second, font)
    draw.text((right, top), second, font=font, fill=FAINT)
    for i, region in enumerate(key_frame.regions):
        y = top + i * LINE_PX
        draw.rounded_rectangle((left, y + 4, left + 12, y + 16), 3, fill=colours[region.entity_id])
        words = region.entity if region.motion_id is None else f"{region.entity} · {region.motion}"
        font = _font(words, LABEL_PX)
        room = (right if i == 0 else left + FRAME_WIDTH_PX) - left - 30
        draw.text((left + 20, y), shortened(words, font, room), font=font, fill=INK)


def shortened(text: str, font: Fonts, width_px: float) -> str:
    """The text, or as much of it as fits with an ellipsis."""
    if _width_of(text, font) <= width_px:
        return text
    fits = (n for n in range(len(text), 0, -1) if _width_of(f"{text[:n]}…", font) <= width_px)
    return f"{text[: next(fits, 0)]}…"
