"""The standing director as a deployment of one replica."""

import asyncio
from collections.abc import Mapping
from typing import Any

from cluster.crew import Crew, Watch
from cluster.locate import open_studio
from cluster.resources import Share
from cluster.seats import ActorSeat, Seat
from cluster.standing_director import DirectorOptions, StandingDirector
from cluster.steps import Step
from serve.app_args import AppArgs
from serve.hearing import HeardSeat
from serve.image_sweep import ImageSweep
from serve.logs import log_to_serve
from serve.metrics import StepMeter, StoryMeter
from serve.order_reader import OrderReader
from serve.premises import Site
from serve.renderer import ReplicaSeat, Whose


class Director:
    """The one that directs; a new one takes up what it leaves."""

    async def __init__(  # type: ignore[misc]
        self, args: AppArgs, renderer: Any, planner: Any | None
    ) -> None:
        log_to_serve()
        site = Site(args)
        studio = await asyncio.to_thread(open_studio, site.profile, site.work)
        ledger = site.open_ledger()
        replicas = {site.profile.resources.roles["renderer"]: renderer}
        if planner is not None:
            replicas[site.profile.resources.roles["planner"]] = planner
        meter = StepMeter(site.profile.resources)
        self._director = StandingDirector(
            ledger=ledger,
            store=site.store,
            profile=site.profile,
            read_order=OrderReader(site.profile, studio, site.backstage),
            make_crew=lambda watch: make_crew(site, replicas, meter, watch, self._whose),
            database_url=site.flows,
            options=DirectorOptions(max_stories=args.max_stories),
        )
        self._director.start()
        self._showing = asyncio.create_task(StoryMeter(ledger).run())
        self._sweeping = asyncio.create_task(ImageSweep(ledger, site.backstage).run())

    def _whose(self, step: Step) -> list[str]:
        return [story.entry.id for story in self._director._waiting(step.artifact)]


def make_crew(
    site: Site, replicas: Mapping[str, Any], meter: StepMeter, watch: Watch, whose: Whose
) -> Crew:
    """Pools with a deployment are its replicas; everybody else is an actor of this director's, and
    ends with it."""
    import ray

    work_dir = str(site.work.root.resolve())

    def sit(pool: str, share: Share) -> Seat:
        if pool in replicas:
            return ReplicaSeat(replicas[pool], whose)
        return ActorSeat(ray, share, site.store_uri, work_dir)

    def hire(pool: str, share: Share) -> Seat:
        return HeardSeat(sit(pool, share), meter.hear)

    return Crew(site.work, site.store, site.profile.resources, hire, meter.on(watch))
