"""What the ledger knows of a key, in Prometheus' text format.

A key sees its own figures; on a machine without keys they are those of all of them. What the
machines do is told elsewhere, to whoever operates them (`serve.metrics`).
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.responses import Response

from cluster.ledger import Key, Ledger, State
from cluster.ledger.charges import DAY_S
from cluster.ledger.tables import STORIES
from serve.doors.examples import FIGURES
from serve.doors.house import AHouse, AKey

router = APIRouter(tags=["health"])

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES: Sequence[State] = get_args(State)
_WHOSE = ("key", "key_id")

Tally = Counter[tuple[str, State, int]]
"""Stories by key id, state and priority."""


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Gauges, in Prometheus' text format.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": FIGURES}},
        }
    },
)
def show_figures(house: AHouse, key: AKey) -> Response:
    """Your stories by state and priority, the GPU seconds charged in the last 24 hours, and your
    limits."""
    keys = [key] if house.options.auth else house.ledger.keys()
    registry = CollectorRegistry()
    registry.register(_Figures(house.ledger, keys, time.time()))
    return Response(generate_latest(registry), media_type=MEDIA_TYPE)


class _Figures(Collector):
    """The figures of these keys."""

    def __init__(self, ledger: Ledger, keys: Sequence[Key], now_s: float) -> None:
        self._ledger, self._keys, self._since_s = ledger, keys, now_s - DAY_S

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._stories(tally_of(self._ledger, [key.id for key in self._keys]))
        used = {
            key.id: self._ledger.used_gpu_s(key.id, since_s=self._since_s) for key in self._keys
        }
        for name, about, values in (
            ("gpu_seconds_day", "GPU seconds charged in 24 hours.", used),
            ("gpu_seconds_day_max", "Of these, the quota.", self._of("max_gpu_s_a_day")),
            ("stories_waiting_max", "Stories that may wait.", self._of("max_waiting")),
            ("key_weight", "Share of the machines beside other keys.", self._of("weight")),
        ):
            family = GaugeMetricFamily(f"dreamrunner_{name}", about, labels=_WHOSE)
            for key in self._keys:
                if (value := values[key.id]) is not None:
                    family.add_metric([key.name, key.id], value)
            yield family

    def _of(self, field: str) -> dict[str, float | None]:
        return {key.id: getattr(key, field) for key in self._keys}

    def _stories(self, tally: Tally) -> Iterable[GaugeMetricFamily]:
        states = GaugeMetricFamily(
            "dreamrunner_stories", "Stories by state.", labels=[*_WHOSE, "state"]
        )
        waiting = GaugeMetricFamily(
            "dreamrunner_stories_waiting",
            "Stories not yet begun, by priority.",
            labels=[*_WHOSE, "priority"],
        )
        for key in self._keys:
            mine = {place[1:]: count for place, count in tally.items() if place[0] == key.id}
            for state in _STATES:
                count = sum(n for (found, _), n in mine.items() if found == state)
                states.add_metric([key.name, key.id, state], count)
            for (state, priority), count in sorted(mine.items()):
                if state == "accepted":
                    waiting.add_metric([key.name, key.id, str(priority)], count)
        return states, waiting


def tally_of(ledger: Ledger, key_ids: Sequence[str]) -> Tally:
    """How many stories these keys have, read from an index alone."""
    place = (STORIES.c.key_id, STORIES.c.state, STORIES.c.priority)
    query = select(*place, func.count()).group_by(*place)
    query = query.where(STORIES.c.state.in_(_STATES), STORIES.c.key_id.in_(key_ids))
    with ledger._database.reading() as db:
        rows = db.execute(query)
        return Counter({(key, state, priority): count for key, state, priority, count in rows})
