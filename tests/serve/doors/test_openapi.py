"""The description of the doors is complete, and its examples are true."""

from typing import Any

import jsonschema
import pytest

from tests.serve.doors.house import Caller


@pytest.fixture
def described(app) -> dict[str, Any]:
    answer = Caller(app)("GET", "/openapi.json")
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


def operations(described):
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def examples(content):
    if "example" in content:
        return [content["example"]]
    return [example["value"] for example in content.get("examples", {}).values()]


def test_all_doors_are_described(described):
    assert {name for name, _ in operations(described)} == {
        "post /v1/stories",
        "get /v1/stories",
        "get /v1/stories/{story_id}",
        "delete /v1/stories/{story_id}",
        "get /v1/stories/{story_id}/events",
        "get /v1/stories/{story_id}/plan",
        "put /v1/stories/{story_id}/plan",
        "get /v1/stories/{story_id}/film",
        "get /v1/stories/{story_id}/sheet",
        "post /v1/stories/{story_id}/cancel",
        "post /v1/characters",
        "get /v1/characters",
        "get /v1/characters/{character_id}",
        "delete /v1/characters/{character_id}",
        "post /v1/videos",
        "get /v1/videos",
        "get /v1/videos/{video_id}",
        "delete /v1/videos/{video_id}",
        "get /v1/videos/{video_id}/content",
        "get /healthz",
        "get /metrics",
    }


def test_every_body_has_examples_that_fit(described):
    bodies = 0
    for name, operation in operations(described):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            assert examples(content), f"{name} has no example of {kind}"
            for example in examples(content):
                check(example, content["schema"], described)
                bodies += 1
    assert bodies >= 8


def test_every_answer_has_examples_that_fit(described):
    for name, operation in operations(described):
        for status, answer in operation["responses"].items():
            for kind, content in answer.get("content", {}).items():
                schema = content["schema"]
                if kind == "application/json" and "$ref" in schema:
                    schema = described["components"]["schemas"][schema["$ref"].split("/")[-1]]
                given = examples(content) or schema.get("examples", [])
                if "json" in kind:
                    assert given, f"{name} {status} has no example"
                for example in given:
                    check(example, schema, described)


def check(example, schema, described):
    jsonschema.validate(example, {**schema, "components": described["components"]})


def test_every_door_says_how_it_refuses_and_what_it_does(described):
    for name, operation in operations(described):
        assert operation.get("description"), name
        kinds = set(operation["responses"]["default"]["content"])
        assert kinds == {"application/json" if "videos" in name else "application/problem+json"}
        assert bool(operation.get("security")) == ("healthz" not in name), name
        for parameter in operation.get("parameters", []):
            assert parameter["name"] != "body"


def test_every_reference_leads_somewhere(described):
    def references(part):
        if isinstance(part, dict):
            yield from [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            for inner in part.values():
                yield from references(inner)
        elif isinstance(part, list):
            for inner in part:
                yield from references(inner)

    for reference in set(references(described)):
        assert reference.split("/")[-1] in described["components"]["schemas"], reference


def test_the_examples_are_what_a_client_may_send(alice, ledger, described):
    for value in examples(body(described, "/v1/stories", "application/json")):
        value = {**value, "characters": ["pirate"]} if "characters" in value else value
        assert alice("POST", "/v1/stories", json=value).status_code == 202
    for path, status in (("/v1/characters", 201), ("/v1/videos", 200)):
        for value in examples(body(described, path, "application/json")):
            answer = alice("POST", path, json=value)
            assert answer.status_code == status, answer.text


def body(described, path, kind):
    return described["paths"][path]["post"]["requestBody"]["content"][kind]
