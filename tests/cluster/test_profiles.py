"""Profiles state everything, and nothing unknown."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from cluster.locate import find_model, video_shape
from cluster.profiles import CHECKOUT, ProfileError, load_profile, shipped_profiles
from cluster.resources import Share
from cluster.workdir import WorkDir
from miniature.cast import BASE_MOTIONS, MOTIONS, PLACES
from pipelines.planner import PlannerOptions
from pipelines.prior_options import MotionPriorOptions, SubjectPriorOptions
from pipelines.render import RenderOptions


def write(folder: Path, **content: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_there_are_three():
    assert shipped_profiles() == ("cogvideox-2b", "cogvideox-5b", "miniature")


@pytest.mark.parametrize("name", ["miniature", "cogvideox-2b", "cogvideox-5b"])
def test_every_number_of_every_owner_is_stated(name):
    profile = load_profile(name)
    for options, owner in [
        (profile.planner, PlannerOptions),
        (profile.motion_prior, MotionPriorOptions),
        (profile.subject_prior, SubjectPriorOptions),
        (profile.render, RenderOptions),
    ]:
        adapter = TypeAdapter(owner)
        stated = adapter.validate_python(options)
        assert adapter.dump_python(stated, mode="json") == options


def test_the_miniature_knows_its_world():
    profile = load_profile("miniature")
    assert set(profile.known_motions) == set(BASE_MOTIONS)
    assert set(profile.planner["motions"]) == set(MOTIONS)
    assert set(profile.planner["places"]) == set(PLACES)
    assert not set(profile.defaults.wishes) & set(BASE_MOTIONS)
    assert profile.judge is not None
    assert Path(profile.judge.model) == CHECKOUT / "miniature" / "checkpoints" / "judge"


def test_the_large_models_know_no_motion_and_take_the_papers_numbers():
    profile = load_profile("cogvideox-2b")
    assert profile.known_motions == ()
    assert (profile.render["num_steps"], profile.render["guidance"]) == (50, 9.0)
    assert profile.motion_prior["rank"] == profile.subject_prior["rank"] == 32
    assert profile.motion_prior["schedule"] == profile.subject_prior["schedule"] == "constant"
    assert profile.subject_prior["loss_weighting"] == "uniform"
    assert (profile.search.max_candidates, profile.search.min_score) == (400, 0.2)
    assert profile.index.recipe.min_aspect == 0.9
    assert profile.render["adapters_in"] == "both"
    assert profile.render["late"]["below"] == 0
    assert profile.planner["style"] == "full"
    assert profile.judge is None


@pytest.mark.parametrize("name", ["cogvideox-2b", "cogvideox-5b"])
@pytest.mark.parametrize("defaults", [MotionPriorOptions(), SubjectPriorOptions()])
def test_the_large_models_learn_by_the_papers_numbers_and_by_none_of_the_miniatures(name, defaults):
    profile = load_profile(name)
    motion = isinstance(defaults, MotionPriorOptions)
    stated = profile.motion_prior if motion else profile.subject_prior
    numbers = TypeAdapter(type(defaults)).validate_python(stated)
    engineering = ("compiled", "gradient_checkpointing", "checkpoint_every", "evaluate_every")
    for field in dataclasses.fields(defaults):
        if field.name not in (*engineering, "num_evaluations", "num_steps"):
            assert getattr(numbers, field.name) == getattr(defaults, field.name), field.name


def test_a_profile_says_what_differs(tmp_path):
    mine = load_profile(write(tmp_path, extends="miniature", name="mine", render={"num_steps": 7}))
    theirs = load_profile("miniature")
    assert mine.render == {**theirs.render, "num_steps": 7}
    assert mine.search == theirs.search


def test_profiles_may_extend_files(tmp_path):
    write(tmp_path, extends="miniature", name="below", crf=30)
    above = tmp_path / "above.yaml"
    above.write_text("extends: mine.yaml\nname: above\n")
    assert load_profile(str(above)).crf == 30
    (tmp_path / "mine.yaml").write_text("extends: above.yaml\n")
    with pytest.raises(ProfileError, match="extends itself"):
        load_profile(str(above))


def test_relative_paths_are_found_beside_the_profile(tmp_path):
    (tmp_path / "backbone").mkdir()
    profile = load_profile(
        write(tmp_path, extends="miniature", name="mine", models={"backbone": "backbone"})
    )
    assert profile.models.backbone == str(tmp_path / "backbone")
    assert profile.cast is not None
    assert Path(profile.cast).is_absolute()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"render": {"num_stepz": 3}}, "did you mean num_steps"),
        ({"render": {"region": {"blur": 1}}}, "render.region.blur is unknown"),
        ({"render": {"num_steps": "many"}}, "render.num_steps: expected a number"),
        ({"planner": {"things": 3}}, "planner.things: expected true or false"),
        ({"motion_prior": 3}, "motion_prior: expected a section"),
        ({"colour": "blue"}, "colour"),
        ({"search": {"max_clip": 3}}, "search.max_clip"),
        ({"index": {"recipe": {"fps": -1}}}, "index.recipe.fps"),
        ({"resources": {"pools": {"trainer": {"workers": 0}}}}, "resources.pools.trainer.workers"),
        ({"resources": {"roles": {"trainer": "nobody"}}}, "nobody"),
        ({"extends": ["miniature"]}, "extends takes one name"),
        ({"extends": "nothing"}, "no profile"),
        ({"defaults": {"num_scenes": 0}}, "defaults.num_scenes"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path, change, words):
    with pytest.raises(ProfileError) as told:
        load_profile(write(tmp_path, **({"extends": "miniature", "name": "mine"} | change)))
    assert words in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "a: !!python/object:os.system {}", "\x00"])
def test_what_is_no_profile_is_told(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError):
        load_profile(str(path))


def test_unknown_names_are_told():
    for name in ("nothing", "nothing.yaml", "/etc/passwd"):
        with pytest.raises(ProfileError, match="miniature"):
            load_profile(name)


def test_a_profile_that_extends_nothing_states_everything(tmp_path):
    with pytest.raises(ProfileError):
        load_profile(write(tmp_path, name="mine"))


def test_the_miniatures_videos_have_a_shape(tmp_path):
    profile = load_profile("miniature")
    shape = video_shape(find_model("backbone", profile, WorkDir(tmp_path)))
    assert (shape.width_px, shape.height_px, shape.num_frames) == (144, 96, 49)


def test_a_role_is_set_apart_where_it_shares_a_pool():
    resources = load_profile("miniature").resources
    apart = resources.apart("planner", workers=8)
    assert apart.roles == {**resources.roles, "planner": "planner"}
    assert apart.share("planner") == resources.share("planner").model_copy(update={"workers": 8})
    assert apart.share("library") == resources.share("library")
    assert apart.apart("planner", workers=9) == apart, "it has its own already"
    taken = resources.model_copy(
        update={
            "pools": {**resources.pools, "planner": resources.pools["trainer"]},
            "roles": {**resources.roles, "planner": "planner", "trainer": "planner"},
        }
    )
    assert taken.apart("planner").roles["planner"] == "planner alone"


@pytest.mark.parametrize(
    ("share", "devices"),
    [
        ({}, ("cpu",)),
        ({"gpus": 0.25}, ("cuda:0",)),
        ({"gpus": 2}, ("cuda:0", "cuda:1")),
        ({"gpus": 1, "runs_on": "cpu"}, ("cpu",)),
    ],
)
def test_a_worker_sees_the_devices_it_was_given(share, devices):
    assert Share(**share).devices == devices
