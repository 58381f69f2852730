"""`dreamrunner evaluate` on films of renders: right ones score above wrong ones, and bad input is
told before any model is loaded."""

import json
import re
import shutil

import pytest
import torch

from cluster.locate import open_studio
from cluster.profiles import load_profile
from cluster.workdir import WorkDir
from miniature.world import Puppet, Spec, render
from pipelines.film import stitch
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene, StoryPlan
from pipelines.video import decode, encode
from serve.film_input import read_films
from tests.serve.command_line import assert_bad_input

NAMES = [
    *("character_clip", "character_dino", "text_clip", "text_viclip"),
    *("fine_clip", "fine_viclip", "transition_dino", "motion"),
]
BOXES = ["box_character", "box_motion", "binding"]
CAST = ("pirate", "astronaut")
MOTIONS = (("bowing", "kicking"), ("waving",))
PLACES = ("forest", "beach")


def scene_of(character, motions, place):
    box = Box(left=0.3, top=0.2, right=0.7, bottom=1)
    frames = [
        Region.of(
            character, motions[k * len(motions) // 6], f"a {character} <b> in the {place}", box
        )
        for k in range(6)
    ]
    told = " ".join(f"A {character} is {motion} in the {place}." for motion in motions)
    layout = Layout(background=place, key_frames=tuple(KeyFrame(regions=(r,)) for r in frames))
    return Scene(place=place, narration=told, motions=motions, layout=layout)


def plan_of(cast=CAST, motions=MOTIONS, places=PLACES):
    scenes = tuple(scene_of(*one) for one in zip(cast, motions, places, strict=True))
    return StoryPlan(topic="Two & a day", characters=tuple(dict.fromkeys(cast)), scenes=scenes)


def write_film(folder, name, plan, source=None):
    """The film of `plan_of()`, or a copy of a source, with this plan in its record."""
    film = folder / f"{name}.mp4"
    if source is not None:
        shutil.copyfile(source, film)
    else:
        specs = [
            Spec(
                place=place,
                seed=5,
                puppets=(
                    Puppet(character=who, motions=does, x0=0.75, x1=0.75, ground=0.94, height=0.7),
                ),
            )
            for who, does, place in zip(CAST, MOTIONS, PLACES, strict=True)
        ]
        drawn = render(specs, frame_indices=torch.arange(0, 49, 2)).frames
        pixels = (drawn * 255).round().byte().permute(0, 1, 3, 4, 2).numpy()
        for number, frames in enumerate(pixels):
            encode(folder / f"{number}.scene", frames, 4.0)
        stitch([folder / f"{number}.scene" for number in range(2)], film)
    record = {"topic": plan.topic, "stages": [], "plan": plan.model_dump(mode="json")}
    film.with_suffix(".json").write_text(json.dumps(record))
    return film


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("films"), "right", plan_of())


def test_the_right_film_scores_above_wrong_ones(evaluate, film, tmp_path):
    write_film(tmp_path, "a_right", plan_of(), film)
    write_film(tmp_path, "b_swapped", plan_of(cast=CAST[::-1]), film)
    others = (("flying", "sleeping"), ("crawling",))
    write_film(tmp_path, "c_other", plan_of(motions=others, places=("city", "cave")), film)
    code, out, err = evaluate(tmp_path, "--json")
    assert code == 0, err
    told = json.loads(out)
    right, swapped, other = (
        {name: mean["mean"] for name, mean in story["means"].items()} for story in told["stories"]
    )
    for name in ("character_clip", "character_dino"):
        assert right[name] > swapped[name] + 0.2
        assert right[name] == pytest.approx(other[name])
    for name in ("text_clip", "text_viclip", "fine_clip", "fine_viclip"):
        assert right[name] > other[name] + 0.1
    assert right["character_dino"] > 0.8
    assert right["transition_dino"] == pytest.approx(swapped["transition_dino"])
    assert 0 < right["motion"] < 0.1
    assert (right["box_character"], swapped["box_character"]) == (1, 0)
    assert right["box_motion"] > other["box_motion"]
    assert right["binding"] > swapped["binding"] == other["binding"] == 0
    assert "c_other.mp4: scene 2 of 2 measured" in err
    assert told["means"]["motion"]["num_scenes"] == 6
    assert [definition["name"] for definition in told["definitions"]] == NAMES + BOXES
    for definition in told["definitions"]:
        assert all(definition.values()), definition
    assert all("@" in d["model"] for d in told["definitions"] if d["name"] != "motion")


def test_a_page_needs_no_other_file_and_hides_no_scene(evaluate, film, tmp_path):
    code, out, err = evaluate(film, "--html", "page.html")
    assert code == 0, err
    page = (tmp_path / "page.html").read_text()
    sources = re.findall(r'src="([^"]{0,40})', page)
    assert len(sources) == 12
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"<script|<link|https?:|url\(", page)
    assert "prefers-color-scheme" in page
    assert "Two &amp; a day" in page
    for place in PLACES:
        assert page.count(f"&ensp;{place}</h3>") == 1
    for words in ("Definitions", "astronaut", "kicking", "A pirate is bowing in the forest."):
        assert words in page
    assert page.count("Read in the boxes: ") == 2
    assert "astronaut waving: " in page
    assert "BT.601" in page
    assert "Two & a day" in out
    tables = out.partition("Tables print")[0]
    for head in ("character", "transition", "ViCLIP", "binding"):
        assert head in tables, "no head of a column is cut"
    assert "BT.601" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dreamrunner", "page.html"]


def test_a_character_without_references_is_not_measured(evaluate, film, tmp_path):
    changed = write_film(tmp_path, "changed", plan_of(cast=("ann", "astronaut")), film)
    code, out, err = evaluate(changed, "--json")
    assert code == 0
    assert "No reference images of ann" in err
    first, second = json.loads(out)["stories"][0]["scenes"]
    assert first["scores"]["character_dino"] is None
    assert (
        first["characters"]["ann"].items()
        >= {
            "character_clip": None,
            "character_dino": None,
            "box_character": None,
        }.items()
    )
    assert {act["entity_id"]: act["right_character"] for act in first["acts"]} == {"ann": None}
    assert second["scores"]["character_dino"] > 0.8
    mean = json.loads(out)["means"]["character_dino"]
    assert (mean["num_scenes"], mean["low"]) == (1, None)
    image = tmp_path / "pirate.png"
    shutil.copyfile("/dev/null", image)
    assert_bad_input(evaluate(changed, "--character", f"Ann=girl:{image}"), "pirate.png", "no PNG")


def test_scenes_are_read_one_at_a_time(film):
    (given,) = read_films([film, film.parent / film.name])
    whole = decode(film)
    assert given.num_frames == 25
    assert (given.frames(1) == whole[:25]).all()
    assert (given.frames(2) == whole[25:]).all()
    assert (given.frames(2)[0] != given.frames(1)[-1]).any()


def test_bad_films_are_told(evaluate, film, tmp_path):
    lonely = tmp_path / "lonely.mp4"
    shutil.copyfile(film, lonely)
    assert_bad_input(evaluate(lonely), "lonely.json cannot be read", "`dreamrunner film`")
    record = lonely.with_suffix(".json")
    record.write_text("{")
    assert_bad_input(evaluate(lonely), "record", "Invalid JSON")
    record.write_text("{}")
    assert_bad_input(evaluate(lonely), "plan: Field required")
    three = plan_of((*CAST, "pirate"), (*MOTIONS, ("waving",)), (*PLACES, "park"))
    write_film(tmp_path, "three", three, film)
    assert_bad_input(evaluate(tmp_path / "three.mp4"), "50 frames are not the 3 scenes")
    text = tmp_path / "text.mp4"
    text.write_text("not a video, whatever its name")
    assert_bad_input(evaluate(text), "text.mp4 is not a video we read")
    cut = write_film(tmp_path, "cut", plan_of(), film)
    nobody = plan_of().model_copy(update={"characters": ("!?",)})
    assert_bad_input(evaluate(write_film(tmp_path, "nobody", nobody, film)), "'!?'", "no letters")
    assert_bad_input(evaluate(cut, "--character", "Bob"), "unknown character 'Bob'")
    assert_bad_input(evaluate(cut, "--character", "Bob=cat:"), "Bob is in none of these films")


def test_models_that_are_missing_fail(evaluate, film, tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text("extends: miniature\nname: mine\nmodels: {dino: nowhere}\n")
    code, _, err = evaluate(film, "--profile", profile)
    assert code == 1
    assert "the dino model nowhere is not on this machine; `dreamrunner doctor`" in err
    empty = tmp_path / "empty"
    empty.mkdir()
    profile.write_text("extends: miniature\nname: mine\nmodels: {clip: empty}\n")
    code, _, err = evaluate(film, "--profile", profile)
    assert code == 1
    assert "does not load" in err
    assert err.count("\n") == 1


def test_boxes_are_read_by_the_judge_of_the_profile_or_by_nobody(evaluate, film, tmp_path):
    profile = tmp_path / "mine.yaml"
    mine = "extends: miniature\nname: mine\n"
    profile.write_text(f"{mine}judge: null\n")
    code, out, err = evaluate(film, "--profile", profile, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert [definition["name"] for definition in told["definitions"]] == NAMES
    assert list(told["means"]) == NAMES
    assert all(scene["acts"] == [] for scene in told["stories"][0]["scenes"])
    profile.write_text(f"{mine}judge: {{factory: 'nowhere.at_all:open'}}\n")
    told = "judge.factory nowhere.at_all:open cannot be imported"
    assert_bad_input(evaluate(film, "--profile", profile), told)
    profile.write_text(f"{mine}judge: {{factory: open_judge}}\n")
    assert_bad_input(evaluate(film, "--profile", profile), "judge.factory")
    profile.write_text(f"{mine}judge: {{model: nowhere}}\n")
    code, _, err = evaluate(film, "--profile", profile)
    assert code == 1
    assert "the judge nowhere is not on this machine; `dreamrunner doctor`" in err


def test_who_only_films_needs_no_model_that_measures(tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text("extends: miniature\nname: mine\nmodels: {dino: nowhere}\n")
    studio = open_studio(load_profile(str(profile)), WorkDir(tmp_path / "work"))
    assert "dino" not in type(studio.models).model_fields
