"""Scenes joined without a frame touched, and the page that shows them."""

import hashlib
import sys

import av
import numpy as np
import pytest
from PIL import Image, ImageFont

from pipelines.contact_sheet import (
    entity_colours,
    key_frame_indices,
    legend,
    shortened,
    wrapped,
)
from pipelines.film import contact_sheet, stitch
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene, StoryPlan
from pipelines.video import decode, encode, probe


def moving(seed, num_frames=17, size=(32, 48)):
    """Smooth moving noise, so that the encoder uses B-frames."""
    base = np.random.default_rng(seed).integers(0, 256, (size[0], size[1] * 2, 3), dtype=np.uint8)
    return np.stack([np.roll(base, 2 * f, 1)[:, : size[1]] for f in range(num_frames)])


@pytest.fixture
def scenes(tmp_path):
    paths = [tmp_path / f"{i}.mp4" for i in range(3)]
    for i, path in enumerate(paths):
        encode(path, moving(i), 8)
    return paths


def packets(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(p.pts, p.dts, bytes(p)) for p in container.demux(stream) if p.dts is not None]


def test_a_film_is_its_scenes_frame_for_frame(scenes, tmp_path):
    film = tmp_path / "film.mp4"
    stitch(scenes, film)
    info = probe(film)
    assert info.num_frames == 51
    assert info.duration_s == pytest.approx(51 / 8)
    expected = np.concatenate([decode(path) for path in scenes])
    assert np.array_equal(decode(film), expected)


def test_packets_are_copied_and_times_only_grow(scenes, tmp_path):
    film = tmp_path / "film.mp4"
    stitch(scenes, film)
    found = packets(film)
    assert [data for *_, data in found] == [data for path in scenes for *_, data in packets(path)]
    times = [dts for _, dts, _ in found]
    assert times == sorted(set(times))
    assert len({pts for pts, *_ in found}) == 51
    assert any(pts != dts for pts, dts, _ in packets(scenes[0])), "the test wants B-frames"


def test_the_same_scenes_give_the_same_bytes(scenes, tmp_path):
    digests = set()
    for name in ("a.mp4", "b.mp4"):
        stitch(scenes, tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_one_scene_is_a_film(scenes, tmp_path):
    stitch(scenes[:1], tmp_path / "film.mp4")
    assert np.array_equal(decode(tmp_path / "film.mp4"), decode(scenes[0]))


@pytest.mark.parametrize(
    ("size", "fps", "crf"), [((32, 64), 8, 18), ((32, 48), 16, 18), ((32, 48), 8, 40)]
)
def test_scenes_of_another_form_are_refused(scenes, tmp_path, size, fps, crf):
    encode(tmp_path / "other.mp4", moving(9, size=size), fps, crf=crf)
    with pytest.raises(ValueError, match="encode all scenes alike"):
        stitch([scenes[0], tmp_path / "other.mp4"], tmp_path / "film.mp4")


def test_a_film_without_scenes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one scene"):
        stitch([], tmp_path / "film.mp4")


def story(num_scenes=2):
    def region(entity, motion, left, right):
        where = Box(left=left, top=0.1, right=right, bottom=1.0)
        return Region.of(entity, motion, f"a {entity} is {motion} in the forest", where)

    frame = KeyFrame(
        regions=(region("witch", "walking", 0.0, 0.5), region("cat", "none", 0.2, 1.0))
    )
    layout = Layout(background="the forest", key_frames=(frame,) * 6)
    scene = Scene(place="forest", narration="They go. " * 40, motions=("walking",), layout=layout)
    return StoryPlan(topic="The witch's day", characters=("witch",), scenes=(scene,) * num_scenes)


def test_the_contact_sheet_shows_every_scene(scenes, tmp_path):
    contact_sheet(story(), scenes[:2], tmp_path / "two.png")
    contact_sheet(story(1), scenes[:1], tmp_path / "one.png")
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "one.png") as one:
        assert two.format == "PNG"
        assert two.width == one.width
        assert two.height > 1.5 * one.height
        seen = {colour for _, colour in two.convert("RGB").getcolors(maxcolors=1 << 24)}
    for colour in entity_colours(story()).values():
        assert tuple(bytes.fromhex(colour[1:])) in seen


def sheet_of(scene, folder, *, name="cat", narration="They go. ", topic="A day"):
    plan = story(1).model_dump()
    plan["topic"], plan["scenes"][0]["narration"] = topic, narration
    for frame in plan["scenes"][0]["layout"]["key_frames"]:
        frame["regions"][1]["entity"] = name
    contact_sheet(StoryPlan.model_validate(plan), [scene], folder / "sheet.png")
    return (folder / "sheet.png").read_bytes()


@pytest.mark.parametrize("letters", ["éàñçő", "ŠžŁŵğ", "Ωμέγα", "Жанна", "ễạữợấ"])
@pytest.mark.parametrize("where", ["topic", "narration", "name"])
def test_letters_beyond_basic_latin_can_be_told_apart(scenes, tmp_path, letters, where):
    """Boxes in their place look the same in any order."""
    sheets = {sheet_of(scenes[0], tmp_path, **{where: text}) for text in (letters, letters[::-1])}
    assert len(sheets) == 2


def test_where_the_wider_font_is_missing_sheets_are_drawn_and_basic_latin_is_the_same(
    scenes, tmp_path, monkeypatch
):
    before = sheet_of(scenes[0], tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert sheet_of(scenes[0], tmp_path) == before
    assert sheet_of(scenes[0], tmp_path, topic="Zoé" * 30) != before


def test_a_legend_of_many_wraps():
    assert legend(["witch", "cat"], 1000) == [
        (0, 56, "witch"),
        (0, pytest.approx(169, abs=8), "cat"),
    ]
    names = [f"a person with a name, number {k}" for k in range(20)] + ["x" * 300]
    places = legend(names, 1000)
    font = ImageFont.load_default(20)
    assert all(left + 24 + font.getlength(said) <= 1000 - 56 for _, left, said in places)
    assert [said for *_, said in places[:20]] == names[:20]
    rows = [row for row, *_ in places]
    assert rows == sorted(rows)
    assert set(rows) == set(range(rows[-1] + 1))
    assert rows[-1] > 3
    assert places[-1][2].endswith("x…")


def test_the_contact_sheet_wants_a_video_a_scene(scenes, tmp_path):
    with pytest.raises(ValueError, match="1 videos for 2 scenes"):
        contact_sheet(story(), scenes[:1], tmp_path / "sheet.png")


def test_key_frames_lie_in_the_middle_of_their_second():
    assert key_frame_indices(49, 6) == [4, 12, 20, 28, 36, 44]


def test_text_is_wrapped_and_long_words_broken():
    font = ImageFont.load_default(20)
    lines = wrapped("one two " + "x" * 200, font, 120)
    assert lines[0] == "one two"
    assert all(font.getlength(line) <= 120 for line in lines)
    assert "".join(lines[1:]) == "x" * 200


def test_labels_too_long_are_cut_with_an_ellipsis():
    font = ImageFont.load_default(16)
    assert shortened("cat · sitting", font, 300) == "cat · sitting"
    cut = shortened("a very long name of a thing · sitting", font, 120)
    assert cut.endswith("…")
    assert font.getlength(cut) <= 120
