"""The doors, put together: any number of replicas of this application share one ledger."""

from fastapi import FastAPI

from cluster.ledger import Ledger
from serve.doors import characters, events, figures, films, health, plans, stories, videos
from serve.doors.guard import BodyLimit, Journal, Keyring
from serve.doors.heads import Heads
from serve.doors.house import House
from serve.doors.openapi import describe
from serve.doors.options import Backstage, DoorOptions
from serve.doors.problems import install

_ABOUT = """Stories become films. Order a story, follow it, fetch its film; edit its plan and only
what changed is made again. `/v1/videos` speaks OpenAI's video convention over the same stories."""


def make_doors(ledger: Ledger, backstage: Backstage, options: DoorOptions) -> FastAPI:
    """An application over a ledger; whoever opened the ledger closes it."""
    app = FastAPI(
        title="dreamrunner",
        version="1",
        summary="A cluster that turns stories into films.",
        description=_ABOUT,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.house = House(ledger=ledger, backstage=backstage, options=options)
    for doors in (stories, events, plans, films, characters, videos, figures, health):
        app.include_router(doors.router)
    install(app)
    describe(app)
    app.add_middleware(Heads)
    app.add_middleware(BodyLimit, options=options)
    app.add_middleware(Keyring, ledger=ledger, options=options)
    app.add_middleware(Journal, options=options)  # the last added comes first
    return app
