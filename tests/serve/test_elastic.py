"""Machines come when stories need them and leave when none does, and one that is lost loses
nothing: Ray's own autoscaler over the machine types of ``ray_cluster.yaml``."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.artifacts import Artifact, LocalStore
from tests.serve.fake_cluster import FakeCluster
from tests.serve.server import Server, free_port, kill

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

ON_GPUS = {"cpus": 0, "gpus": 1, "runs_on": "cpu", "workers": 2, "idle_s": 2}
"""One pretended GPU a worker."""


@pytest.fixture
def cluster(tmp_path_factory) -> Iterator[FakeCluster]:
    cluster = FakeCluster(tmp_path_factory.mktemp("ray"), free_port(), idle_s=8, max_gpus=3)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def server(studio, tmp_path, cluster) -> Iterator[Server]:
    profile = tmp_path / "elastic.yaml"
    pools = {"trainer": ON_GPUS, "renderer": ON_GPUS}
    profile.write_text(
        yaml.safe_dump(
            {
                "extends": str(studio / "tiny.yaml"),
                "name": "elastic",
                "resources": {"pools": pools},
            }
        )
    )
    server = Server(tmp_path, profile, environment=cluster.environment)
    server.start()
    yield server
    server.die()


def side_by_side(store: LocalStore, kind: str) -> int:
    """The most steps of a kind that were under way at one time."""
    spans = [
        (record["started_s"], record["started_s"] + record["seconds"])
        for line in store.log()
        if (artifact := Artifact.parse(line["artifact"])).kind == kind
        and (record := store.record(artifact))
    ]
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def test_machines_come_and_go_and_one_that_is_lost_loses_nothing(server, cluster):
    assert cluster.machines() == []
    stories = [server.submit(seed) for seed in range(6)]
    most, lost, began = 0, False, time.monotonic()
    while {server.story(story)["state"] for story in stories} - {"finished"}:
        assert time.monotonic() - began < 300, [server.story(story) for story in stories]
        machines = cluster.machines()
        most = max(most, len(machines))
        scenes = Path(server.work.artifacts / "scene")
        if not lost and len(machines) >= 2 and scenes.exists() and any(scenes.iterdir()):
            kill(machines[0])
            lost = True
        time.sleep(0.5)
    assert lost
    assert most >= 2
    store = LocalStore(server.work.artifacts)
    made = [line["artifact"] for line in store.log() if line["event"] == "published"]
    assert len(made) == len(set(made))
    assert side_by_side(store, "motion-prior") == 2
    while cluster.machines():
        assert time.monotonic() - began < 400, "machines that nobody needs stay"
        time.sleep(0.5)
