"""A topic that cannot fit into the planner's model is known by its folder alone."""

import json
import shutil
from pathlib import Path

import pytest

from cluster.profiles import Profile, load_profile
from cluster.topic_limit import TopicLimit
from pipelines.language import EngineError, TransformersEngine
from pipelines.plan import Character, Story
from pipelines.prompts import story_messages

CONTEXT = 2048
LONG = "go! " * 1500


@pytest.fixture
def profile() -> Profile:
    return load_profile("miniature")


def with_planner(profile: Profile, **changes: str) -> Profile:
    models = profile.models.model_copy(update={"planner": changes.pop("planner")})
    return profile.model_copy(update={"models": models, **changes})


def test_what_is_refused_could_not_be_planned(profile):
    limit = TopicLimit.of(profile)
    assert limit.fault(LONG) == f"has 4500 tokens, and the planner takes {CONTEXT} in all"
    assert limit.fault("?" * (CONTEXT - 1)) is None
    assert limit.fault("?" * CONTEXT) is not None
    story = Story(topic="?" * CONTEXT, characters=(Character(name="a", phrase="a"),), num_scenes=1)
    engine = TransformersEngine(profile.models.planner)
    with pytest.raises(EngineError, match=f"the model takes {CONTEXT}"):
        engine.complete(story_messages(story, style="brief"), None, max_tokens=9, seed=0)


def test_a_planner_that_is_not_here_may_take_anything(profile, tmp_path):
    for elsewhere in (
        profile.model_copy(update={"engine": "http://localhost:1/v1"}),
        with_planner(profile, planner="owner/model"),
        with_planner(profile, planner=str(tmp_path)),
    ):
        assert TopicLimit.of(elsewhere).fault(LONG) is None


@pytest.mark.parametrize("inner", [False, True])
def test_positions_that_are_stretched_say_no_limit(profile, tmp_path, inner):
    folder = shutil.copytree(profile.models.planner, tmp_path / "planner")
    config = json.loads((folder / "config.json").read_text())

    def limit_of(rope: dict[str, object]) -> TopicLimit:
        changed = {**config, "rope_parameters": {**config["rope_parameters"], **rope}}
        told = {"text_config": changed} if inner else changed
        Path(folder / "config.json").write_text(json.dumps(told))
        return TopicLimit.of(with_planner(profile, planner=str(folder), engine="vllm"))

    assert limit_of({}).fault(LONG) is not None
    assert limit_of({"rope_type": "yarn", "factor": 4.0}).fault(LONG) is None
