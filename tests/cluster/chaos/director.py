"""A director that is made to be killed: all of it is real but the hands."""

import asyncio
import logging
import os
import random
from pathlib import Path

from cluster.artifacts import Artifact, LocalStore
from cluster.crew import Crew, Watch
from cluster.fairness import Tenant
from cluster.ledger import Ledger, StoryEntry
from cluster.order import Order
from cluster.profiles import load_profile
from cluster.resources import Resources, Share
from cluster.standing_director import DirectorOptions, StandingDirector
from cluster.steps import Step
from cluster.studio import Member
from cluster.workdir import WorkDir
from tests.cluster.chaos.hands import POISON, HandSeat
from tests.cluster.samples import nowhere, sample_order, sample_studio

POOLS = {"renderer": 6, "trainer": 3, "helper": 3}
RESOURCES = Resources(
    pools={name: Share(workers=n, idle_s=5.0, attempts=10) for name, n in POOLS.items()},
    roles={
        "library": "helper",
        "planner": "helper",
        "editor": "helper",
        "trainer": "trainer",
        "renderer": "renderer",
    },
)
NOBODY_FILE = "for-nobody.txt"
"""Steps that were done though no story was known to wait for them."""


class WatchedCrew(Crew):
    """A crew that writes down work for nobody."""

    root: Path

    async def run(self, step: Step, tenant: Tenant) -> Artifact:  # type: ignore[override]
        if tenant.key_id == "nobody":
            with (self.root / NOBODY_FILE).open("a") as stream:
                stream.write(f"{step.artifact} {step.label}\n")
        return await super().run(step, tenant)


def read_order(entry: StoryEntry) -> Order:
    """What a story of the chaos asks for."""
    wish = entry.request
    if wish.get("impossible"):
        raise ValueError("nobody can film that")
    world = int(wish["world"])
    witch = (nowhere(f"{POISON}.png"),) if wish.get("poisoned") else ()
    return sample_order(
        topic=f"day {world}",
        seed=wish["seed"],
        plan=entry.given_plan,
        studio=sample_studio(prior_seed=world),
        cast=(
            Member(name="pirate", phrase="pirate", images=(nowhere("pirate.png"),)),
            Member(name="witch", phrase="witch", images=witch),
        ),
    )


async def direct(folder: Path, ledger_url: str, flows_url: str, life: int) -> None:
    store = LocalStore(folder / "artifacts")
    luck = random.Random(f"{folder.name}/{life}")

    def make_crew(watch: Watch) -> Crew:
        crew = WatchedCrew(
            WorkDir(folder), store, RESOURCES, lambda *_: HandSeat(store, luck), watch
        )
        crew.root = folder
        return crew

    director = StandingDirector(
        ledger=Ledger(ledger_url),
        store=store,
        profile=load_profile("miniature"),
        read_order=read_order,
        make_crew=make_crew,
        database_url=flows_url,
        options=DirectorOptions(max_stories=8, poll_s=0.05, tell_s=0.05),
    )
    director.start()
    await asyncio.Event().wait()


def main(folder: Path, ledger_url: str, flows_url: str, life: int) -> None:
    """Direct until killed. ``life`` counts lives, so that no two have the same luck."""
    with log_of(folder, life).open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    logging.basicConfig(level=logging.INFO)
    asyncio.run(direct(folder, ledger_url, flows_url, life))


def log_of(folder: Path, life: int) -> Path:
    return folder / f"director-{life}.log"
