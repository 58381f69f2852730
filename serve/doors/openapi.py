"""The description of the doors (OpenAPI): what FastAPI derives, and how refusals look."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from serve.doors.bodies import CharacterRequest, VideoRequest
from serve.doors.examples import ANSWERS
from serve.doors.problems import TITLES, Problem

_REF = "#/components/schemas/{model}"
_METHODS = ("get", "post", "put", "delete")
_OPENAI_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_PROBLEM_EXAMPLE = {
    "type": "urn:dreamrunner:problem:unknown",
    "title": TITLES["unknown"],
    "status": 404,
    "detail": "no story 'story_01M8ZK4T5XW2Q9R7C3V6B1N0HD'",
    "request_id": "5b1c6c9be24f4f6c",
    "errors": [],
}
_OPENAI_EXAMPLE = {
    "error": {
        "message": "no story 'story_01M8ZK4T5XW2Q9R7C3V6B1N0HD'",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }
}


def describe(app: FastAPI) -> None:
    """Let ``/openapi.json`` say everything, in FastAPI's way. Made when first asked for."""

    def description() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _whole(app)
        return app.openapi_schema

    app.openapi = description  # type: ignore[method-assign]


def _whole(app: FastAPI) -> dict[str, Any]:
    described = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
    )
    schemas = described["components"]["schemas"]
    for model in (Problem, CharacterRequest, VideoRequest):
        schemas |= _schemas_of(model)
    schemas["OpenAIError"] = _OPENAI_ERROR
    for name, example in ANSWERS.items():  # not through FastAPI, which drops every null
        schemas[name]["examples"] = [example]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, operation in _operations(described):
        operation["responses"].pop("422", None)
        operation["responses"]["default"] = _refusal(path)
    return described


def _schemas_of(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema and those it refers to."""
    schema = model.model_json_schema(ref_template=_REF)
    return {**schema.pop("$defs", {}), model.__name__: schema}


def _operations(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield path, methods[method]


def _refusal(path: str) -> dict[str, Any]:
    if path.startswith("/v1/videos"):
        content = {
            "application/json": {
                "schema": {"$ref": _REF.format(model="OpenAIError")},
                "example": _OPENAI_EXAMPLE,
            }
        }
        return {"description": "A refusal, in OpenAI's shape.", "content": content}
    content = {
        "application/problem+json": {
            "schema": {"$ref": _REF.format(model="Problem")},
            "example": _PROBLEM_EXAMPLE,
        }
    }
    return {"description": "A refusal (RFC 9457).", "content": content}
