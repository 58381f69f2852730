"""What a served application is told; light, so that a config can be written without Ray."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.plan import Record

APP = "dreamrunner"


class AppArgs(Record):
    """Where an application keeps things, and how large it is."""

    profile: str = "miniature"
    work_dir: str
    """A folder that every machine of the cluster sees."""
    artifacts: str | None = None
    """URI of the artifact store; in the work folder if it is left out."""
    ledger: str | None = None
    """``postgresql+psycopg://…`` for a cluster; a file in the work folder if it is left out."""
    flows: str | None = None
    """Database of the durable flows, ``postgresql://…``; likewise."""
    auth: bool = True
    hosts: tuple[str, ...] = ()
    """Names beside loopback's under which doors without keys answer."""
    planner: Literal["profile", "vllm"] = "profile"
    """Who plans: the profile's engine, in a worker; or the profile's model in a vLLM of its own."""
    gateways: Annotated[int, Field(ge=1, le=64)] = 2
    max_stories: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Stories under way at a time."""
    max_ongoing: Annotated[int, Field(ge=1)] = 1000
    """Requests that one gateway has open, event streams among them."""
    control: str | None = None
    """A custom Ray resource of the machines that stay (the head): director and gateways live
    there, and no machine that scales away takes them along."""
