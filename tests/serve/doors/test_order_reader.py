"""What a story's order is made from: what was asked for, and never what came of it."""

import pytest

from cluster.locate import MissingError
from cluster.profiles import load_profile
from serve import order_reader
from serve.backstage import Backstage
from serve.doors.examples import PLAN
from serve.order_reader import OrderReader
from tests.cluster.samples import sample_studio
from tests.serve.doors.house import finish, png


@pytest.fixture
def read_order(stage) -> OrderReader:
    backstage: Backstage = stage
    return OrderReader(load_profile("miniature"), sample_studio(), backstage)


@pytest.fixture
def order(alice) -> dict[str, object]:
    image = ("pirate.png", png(64, 64), "image/png")
    form = {"name": "pirate", "phrase": "pirate"}
    kept = alice("POST", "/v1/characters", data=form, files={"images": image})
    assert kept.status_code == 201, kept.text
    return {"characters": [kept.json()["id"]]}


def test_what_came_into_a_library_meanwhile_is_seen_after_a_while(
    alice, ledger, stage, order, monkeypatch
):
    then, now = (sample_studio(prior_seed=seed) for seed in (1, 2))
    read_order = OrderReader(load_profile("miniature"), then, stage)
    monkeypatch.setattr(order_reader, "with_library_of_now", lambda *_: now)
    story = ledger.story(alice.order(**order, num_scenes=1))
    assert read_order(story).studio == then
    monkeypatch.setattr(order_reader, "LOOK_AGAIN_S", -1.0)
    assert read_order(story).studio == now

    def gone(*_):
        raise MissingError("no library there")

    monkeypatch.setattr(order_reader, "with_library_of_now", gone)
    assert read_order(story).studio == now


def test_a_shown_plan_changes_no_order(alice, ledger, read_order, order):
    story = alice.order(**order, num_scenes=1, wishes=["bowing"])
    before = read_order(ledger.story(story))
    assert (before.plan, before.wishes) == (None, ("bowing",))
    finish(ledger, story, PLAN)
    assert read_order(ledger.story(story)) == before


def test_a_given_plan_and_an_edited_one_are_the_order(alice, ledger, read_order, order):
    story = alice.order(**order, num_scenes=1)
    finish(ledger, story, PLAN)
    tag = alice("GET", f"/v1/stories/{story}/plan").headers["etag"]
    path = f"/v1/stories/{story}/plan"
    edited = alice("PUT", path, json=PLAN, headers={"If-Match": tag})
    assert edited.status_code == 202, edited.text
    given = alice.order(plan=PLAN, **{**order, "topic": None, "wishes": None})
    for name in (story, given):
        plan = read_order(ledger.story(name)).plan
        assert plan is not None
        assert plan.model_dump(mode="json") == PLAN
