"""A report of measured films as one HTML file: key frames with planned boxes, figures,
definitions. It needs no other file and no script."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path

from pipelines.binding import SeenAct
from pipelines.bootstrap import Mean
from pipelines.contact_sheet import entity_colours, key_frame_indices, key_picture
from pipelines.metric_definitions import SCALE, Definition, Scores
from pipelines.plan import KeyFrame, Scene, StoryPlan
from pipelines.scene_figures import SceneFigures, StoryFigures, means
from pipelines.video import Frames

PICTURE_WIDTH_PX = 288
JPEG_QUALITY = 88
STYLE = Path(__file__).with_name("evaluation_page.css")
NOTHING = "–"


@dataclass(frozen=True)
class Strip:
    """The key frames of a scene: pictures as JPEG, and what was planned in them."""

    pictures: tuple[bytes, ...]
    captions: tuple[str, ...]
    """HTML."""


def strip(plan: StoryPlan, scene: Scene, frames: Frames) -> Strip:
    """Key frames of a scene with its planned boxes drawn, from its frames (F, H, W, 3)."""
    colours = entity_colours(plan)
    size = PICTURE_WIDTH_PX, round(PICTURE_WIDTH_PX * frames.shape[1] / frames.shape[2])
    key_frames = scene.layout.key_frames
    pictures = []
    for key_frame, index in zip(
        key_frames, key_frame_indices(len(frames), len(key_frames)), strict=True
    ):
        content = BytesIO()
        picture = key_picture(frames[index], key_frame, colours, size)
        picture.save(content, format="JPEG", quality=JPEG_QUALITY)
        pictures.append(content.getvalue())
    return Strip(tuple(pictures), tuple(_caption(frame, colours) for frame in key_frames))


def page(
    stories: Sequence[StoryFigures],
    strips: Mapping[tuple[str, int], Strip],
    told: Sequence[Definition],
    *,
    subtitle: str,
) -> str:
    """The report.

    Args:
        strips: by film and number of the scene.
        told: the definitions of all figures, in the order of the columns.
    """
    body = [
        f"<header><h1>Evaluation</h1><p>{escape(subtitle)}. {escape(SCALE)}</p></header>",
        *([_means("All films", means(stories), told)] if len(stories) > 1 else []),
        *(_story(story, strips, told) for story in stories),
        _definitions(told),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark"><title>Evaluation</title>'
        f"<style>{STYLE.read_text(encoding='utf-8')}</style>"
    )
    text = "\n".join(body)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{text}\n</body></html>\n'


def figure(value: float | None) -> str:
    """A figure as reports print it: times 100."""
    return NOTHING if value is None else f"{100 * value:.1f}"


def _caption(key_frame: KeyFrame, colours: Mapping[str, str]) -> str:
    lines = (
        f'<span><i style="background:{colours[region.entity_id]}"></i>{escape(region.entity)}'
        f"{'' if region.motion_id is None else f' · {escape(region.motion)}'}</span>"
        for region in key_frame.regions
    )
    return "".join(lines)


def _story(
    story: StoryFigures, strips: Mapping[tuple[str, int], Strip], told: Sequence[Definition]
) -> str:
    scenes = "\n".join(
        _scene(scene, strips[story.film, scene.number], told) for scene in story.scenes
    )
    several = len(story.scenes) > 1
    whole = _means("Means over the scenes", story.means, told) if several else ""
    return (
        f'<section><h2>{escape(story.topic)}</h2><p class="faint">{escape(story.film)}</p>\n'
        f"{whole}\n{scenes}</section>"
    )


def _scene(scene: SceneFigures, shown: Strip, told: Sequence[Definition]) -> str:
    frames = "".join(
        f'<figure><img alt="key frame {i}" src="data:image/jpeg;base64,'
        f'{b64encode(picture).decode()}"><figcaption>{caption}</figcaption></figure>'
        for i, (picture, caption) in enumerate(
            zip(shown.pictures, shown.captions, strict=True), start=1
        )
    )
    return (
        f"<article><h3>{scene.number}&ensp;{escape(scene.place)}</h3>"
        f'<p class="faint">{escape(scene.narration)}</p><div class="strip">{frames}</div>'
        f"{_table(['', *(d.title for d in told)], _rows(scene, told))}{_acts(scene)}</article>"
    )


def _acts(scene: SceneFigures) -> str:
    """What was read in the boxes of a scene, if somebody read them."""
    words = [f"{act.entity_id} {act.motion_id}: {_read(act)}" for act in scene.acts]
    return f'<p class="faint">Read in the boxes: {escape("; ".join(words))}.</p>' if words else ""


def _read(act: SeenAct) -> str:
    both = ((act.right_character, act.seen.character), (act.right_motion, act.seen.motion))
    known = [(right, seen) for right, seen in both if right is not None]
    if not known:
        return "unknown to the judge"
    is_right = all(right for right, _ in known)
    told = "right" if is_right else f"looks like {' '.join(seen for _, seen in known)}"
    return told if len(known) == len(both) else f"{told}, as far as the judge knows"


def _rows(scene: SceneFigures, told: Sequence[Definition]) -> list[list[str]]:
    """The scene's own figures, then those of each character and of each sentence."""
    parts: list[tuple[str, Scores]] = [("scene", scene.scores), *scene.characters.items()]
    parts += [(f"“{sentence}”", scores) for sentence, scores in scene.parts]
    return [
        [name, *(figure(scores[d.name]) if d.name in scores else "" for d in told)]
        for name, scores in parts
    ]


def _means(title: str, found: Mapping[str, Mean | None], told: Sequence[Definition]) -> str:
    rows = [
        ["mean", *(figure(mean.mean if (mean := found[d.name]) else None) for d in told)],
        [
            "95 % interval, from",
            *(figure(mean.low if (mean := found[d.name]) else None) for d in told),
        ],
        ["to", *(figure(mean.high if (mean := found[d.name]) else None) for d in told)],
        ["scenes", *(str(mean.num_scenes if (mean := found[d.name]) else 0) for d in told)],
    ]
    return _table([title, *(d.title for d in told)], rows)


def _definitions(told: Sequence[Definition]) -> str:
    head = ["figure", "what it says", "model", "frames", "pooling", "preprocessing"]
    rows = [[d.title, d.says, d.model, d.frames, d.pooling, d.preprocessing] for d in told]
    return f'<section class="words"><h2>Definitions</h2>{_table(head, rows, "")}</section>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "figures") -> str:
    words = [head[0], *(word.replace(" ", "\n") for word in head[1:])]  # one under the other
    top = "".join(f"<th>{escape(word)}</th>" for word in words)
    lines = (
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}"
        "</tr>"
        for row in rows
    )
    body = f"<tr>{top}</tr>{''.join(lines)}"
    return f'<div class="wide"><table class="{kind}">{body}</table></div>'
