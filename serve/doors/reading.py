"""Bodies that may come as JSON or as a form."""

import json
from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData

from pipelines.plan import Record
from serve.doors.problems import Refusal, faults_of, is_json, of_faults

_MAX_FIELDS = 40
_MAX_FIELD_BYTES = 128 << 10

Sent = TypeVar("Sent", bound=Record)


async def read_body(request: Request, *, max_files: int) -> object:
    """The form, or the JSON value, of a request. Raises `Refusal`."""
    if is_json(request):
        return _parsed(await request.body())
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise Refusal(415, "media-type", "send application/json or multipart/form-data")
    form: FormData = await request.form(
        max_files=max_files, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
    )
    return form


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except RecursionError as error:
        raise Refusal(400, "bad-request", "the body is nested too deep") from error
    except ValueError as error:
        raise Refusal(400, "bad-request", "the body is not JSON") from error


def validated(kind: type[Sent], value: object) -> Sent:
    """A body's value as a record. Raises `Refusal` with every fault."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        faults = faults_of(error.errors(include_url=False, include_input=False), start="body")
        raise of_faults(faults) from error
