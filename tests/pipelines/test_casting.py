"""Who a text is about, asked of a model that may be wrong."""

import json

import pytest
from jsonschema import Draft202012Validator

from pipelines.casting import cast_of, cast_schema
from pipelines.planner import PlanError, PlannerOptions
from tests.pipelines.test_planner import Script

TOPIC = "A dog runs through a field while a black cat climbs a tree"


def answer(*cast: tuple[str, str]) -> str:
    return json.dumps({"cast": [{"name": name, "phrase": phrase} for name, phrase in cast]})


def test_those_it_names_are_the_characters() -> None:
    engine = Script(answer(("dog", "running dog"), ("cat", "black cat")))
    cast = cast_of(engine, TOPIC, options=PlannerOptions())
    assert [(one.id, one.phrase, one.images) for one in cast] == [
        ("dog", "running dog", ()),
        ("cat", "black cat", ()),
    ]
    assert engine.asked[0][-1]["content"] == TOPIC
    assert engine.schemas == [cast_schema(3)]


def test_it_is_told_whom_it_invented_and_whom_it_named_twice() -> None:
    invented, twice = answer(("wolf", "grey wolf")), answer(("cat", "cat"), ("a cat", "black cat"))
    engine = Script(invented, twice, "{", answer(("cat", "black cat")))
    (cat,) = cast_of(engine, TOPIC, options=PlannerOptions(max_repairs=3))
    assert cat.name == "cat"
    told = [messages[-1]["content"] for messages in engine.asked[1:3]]
    assert "wolf does not stand in the description" in told[0]
    assert "two have the same name" in told[1]
    with pytest.raises(PlanError, match="no valid plan for the cast: cast: wolf does not stand"):
        cast_of(Script(invented, invented), TOPIC, options=PlannerOptions(max_repairs=1))


def test_the_schema_holds_the_answers_that_are_meant() -> None:
    schema = Draft202012Validator(cast_schema(2))
    assert schema.is_valid(json.loads(answer(("dog", "dog"), ("cat", "cat"))))
    assert not schema.is_valid(json.loads(answer()))
    assert not schema.is_valid(json.loads(answer(*[("dog", "dog")] * 3)))
