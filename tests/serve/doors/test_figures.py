"""Figures for Prometheus: right, and nobody else's."""

import re
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from cluster.ledger import Ledger
from cluster.ledger.tables import KEYS
from serve.doors.app import make_doors
from serve.doors.examples import FIGURES
from tests.serve.doors.house import Caller, finish, options


def read(text):
    """Value by name and the rest of the labels; whose they are is checked to be one."""
    whose, found = set(), {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        for sample in family.samples:
            labels = dict(sample.labels)
            whose.add((labels.pop("key"), labels.pop("key_id")))
            found[(sample.name.removeprefix("dreamrunner_"), *labels.values())] = sample.value
    assert len(whose) == 1
    return found, whose.pop()


def figures(caller):
    answer = caller("GET", "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return read(answer.text)


def test_a_key_sees_its_stories_by_state_and_those_that_wait_by_priority(alice, bob, ledger):
    story = alice.order()
    finish(ledger, story)
    for priority in (0, 5, 5):
        alice.order(priority=priority)
    bob.order()
    found, (name, _) = figures(alice)
    assert name == "alice"
    states = {place[1]: value for place, value in found.items() if place[0] == "stories"}
    assert states == {
        **{"accepted": 3, "running": 0, "cancelling": 0},
        **{"finished": 1, "failed": 0, "cancelled": 0},
    }
    assert found["stories_waiting", "0"] == 1
    assert found["stories_waiting", "5"] == 2


def test_gpu_seconds_of_a_day_and_limits(app, tmp_path, stage):
    now = [time.time() - 90_000]
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", clock=lambda: now[0])
    key, secret = ledger.add_key("rich", weight=3, max_waiting=7, max_gpu_s_a_day=500)
    other, other_secret = ledger.add_key("poor")
    ledger.charge("scene-old", key.id, 100)
    now[0] = time.time()
    ledger.charge("scene-new", key.id, 20.5)
    ledger.charge("scene-its", other.id, 3)
    found, whose = figures(Caller(app, secret))
    assert whose == ("rich", key.id)
    assert (found["gpu_seconds_day",], found["gpu_seconds_day_max",]) == (20.5, 500)
    assert (found["stories_waiting_max",], found["key_weight",]) == (7, 3)
    found, _ = figures(Caller(app, other_secret))
    assert found["gpu_seconds_day",] == 3
    assert ("gpu_seconds_day_max",) not in found
    ledger.close()


def test_two_keys_of_one_name_are_two(app, ledger):
    first, secret = ledger.add_key("twin")
    Caller(app, secret).order()
    assert figures(Caller(app, secret))[0]["stories", "accepted"] == 1
    ledger.revoke_key(first.id)
    second, other = ledger.add_key("twin")
    found, whose = figures(Caller(app, other))
    assert (whose, found["stories", "accepted"]) == (("twin", second.id), 0)
    assert first.id != second.id


def test_without_a_key_there_is_nothing_and_without_keys_everything(app, ledger, stage, alice):
    alice.order()
    answer = Caller(app)("GET", "/metrics")
    assert (answer.status_code, answer.json()["type"][-12:]) == (401, "unauthorised")
    local = make_doors(ledger, stage, options(auth=False))
    Caller(local).order()
    text = Caller(local)("GET", "/metrics").text
    assert set(re.findall(r'stories{key="(\w+)".*state="accepted"} 1.0', text)) == {
        "alice",
        "local",
    }
    stranger = Caller(local)("GET", "/metrics", headers={"Host": "evil.example"})
    assert stranger.status_code == 403


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "ä{}"])
def test_odd_names_of_old_keys_do_not_spoil_the_text(app, ledger, name):
    secret = ledger.add_key("old")[1]
    with ledger._database.writing() as db:
        db.execute(KEYS.update().values(name=name))
    assert figures(Caller(app, secret))[1][0] == name


def test_a_ledger_that_is_away_is_told(alice, app, monkeypatch):
    def fail(*_, **__):
        raise OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr(app.state.house.ledger, "used_gpu_s", fail)
    assert alice("GET", "/metrics").status_code == 503


def test_the_example_has_what_the_door_says(app, ledger):
    caller = Caller(app, ledger.add_key("studio-7", max_gpu_s_a_day=1.0)[1])
    caller.order()
    told = caller("GET", "/metrics").text
    heads = re.findall("^# .*$", told, re.MULTILINE)
    assert heads == re.findall("^# .*$", FIGURES, re.MULTILINE)
    example, (name, _) = read(FIGURES)
    assert name == "studio-7"
    assert set(figures(caller)[0]) <= set(example)
