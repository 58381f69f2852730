"""The shelf of adapters: who is thrown out, what is read again; and no scene looks different."""

import shutil
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from cluster.artifacts import Artifact, LocalStore, Place, key
from cluster.reader import ADAPTER, PRIOR_REPORT, SCENE
from cluster.renderers import SceneRenderer
from cluster.shelf import Shelf, ShelfCounts
from cluster.steps import RenderScene
from cluster.workers import Desk
from pipelines.adapter_file import save_adapter
from pipelines.backbone import Backbone
from pipelines.backbone_shape import new_pipeline
from pipelines.lora import Adapter
from pipelines.prior_options import PriorReport
from pipelines.prior_weights import new_pairs, snapshot
from pipelines.progress import silent
from tests.cluster.samples import scene_of
from tests.cluster.tiny_studio import SHAPE, WORDS

OPTIONS = {"num_steps": 2, "guidance": 4.0}


def toy(name: str, rank: int = 2) -> Adapter:
    """An adapter of 64 bytes a rank."""
    pair = (torch.randn(rank, 8), torch.randn(8, rank))
    return Adapter(id=name, kind="motion", target=name, weights={"to_q": pair}, rank=rank)


class Disk:
    """Adapters by name, and what was read of them."""

    def __init__(self, **ranks: int) -> None:
        self.adapters = {name: toy(name, rank) for name, rank in ranks.items()}
        self.read: list[str] = []

    def take(self, shelf: Shelf, names: str) -> None:
        for name in names:
            assert shelf.take(name, lambda name=name: self._load(name)) is self.adapters[name]

    def _load(self, name: str) -> Adapter:
        self.read.append(name)
        return self.adapters[name]


def test_the_least_recently_used_goes_first():
    disk, told = Disk(a=1, b=1, c=1, d=1), []
    shelf = Shelf(3 * 64, told.append)
    disk.take(shelf, "abc")
    disk.take(shelf, "a")
    disk.take(shelf, "d")
    disk.take(shelf, "acd")
    assert disk.read == [*"abcd"]
    disk.take(shelf, "b")
    disk.take(shelf, "cd")
    assert disk.read == [*"abcdb"]
    disk.take(shelf, "a")
    assert disk.read == [*"abcdba"]
    assert shelf.counts == ShelfCounts(hits=6, loads=6, evictions=3, num_bytes=3 * 64)
    assert len(told) == 12
    assert told[-1] == shelf.counts


def test_bytes_bound_it_and_not_numbers():
    disk = Disk(a=1, b=1, c=1, w=2)
    shelf = Shelf(3 * 64)
    disk.take(shelf, "abc")
    disk.take(shelf, "w")
    assert shelf.counts == ShelfCounts(loads=4, evictions=2, num_bytes=3 * 64)
    disk.take(shelf, "cw")
    assert disk.read == [*"abcw"]


def test_what_is_larger_than_the_shelf_is_given_and_moves_nobody():
    disk = Disk(a=1, w=4)
    shelf = Shelf(3 * 64)
    disk.take(shelf, "awwa")
    assert disk.read == [*"aww"]
    assert shelf.counts == ShelfCounts(hits=1, loads=3, num_bytes=64)


def test_that_one_is_of_no_use_is_remembered_and_that_it_cannot_be_read_is_not():
    shelf, reads = Shelf(64), []

    def damaged() -> Adapter:
        reads.append("damaged")
        raise ValueError("is not a whole adapter")

    for _ in range(2):
        assert shelf.take("useless", lambda: reads.append("useless")) is None
        with pytest.raises(ValueError, match="not a whole"):
            shelf.take("damaged", damaged)
    assert reads == ["useless", "damaged", "damaged"]
    assert shelf.counts == ShelfCounts(hits=1, loads=1)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Place:
    folder = tmp_path_factory.mktemp("models") / "backbone"
    new_pipeline(SHAPE, WORDS, seed=0).save_pretrained(folder)
    return Place(path=str(folder), content="tiny")


class Studio:
    """A store with priors in it, and one scene after the other rendered with them."""

    def __init__(self, folder: Path, backbone: Place) -> None:
        self.folder, self.backbone = folder, backbone
        self.store = LocalStore(folder / "artifacts")
        self.loaded = Backbone.load(backbone.path)

    def learn(self, motion: str, *, usable: bool = True) -> Artifact:
        """A prior of random weights."""
        pairs = new_pairs(self.loaded.transformer, "motion", 2, motion)
        for _, up in pairs.values():
            up.data.normal_(generator=torch.Generator().manual_seed(1))
        adapter = Adapter(
            id=motion, kind="motion", target=motion, weights=snapshot(pairs), rank=2, scale=0.7
        )
        figures = dict.fromkeys(PriorReport.__annotations__, 1)
        artifact = Artifact(kind="motion-prior", key=key("motion-prior", motion=motion))
        aside = self.store.aside(artifact)
        save_adapter(adapter, aside / ADAPTER)
        report = PriorReport(**{**figures, "usable": usable})
        (aside / PRIOR_REPORT).write_bytes(TypeAdapter(PriorReport).dump_json(report))
        self.store.publish(artifact, aside, {})
        return artifact

    def render(self, renderer: SceneRenderer, motion: str, *priors: Artifact) -> bytes:
        step = RenderScene(
            number=1,
            scene=scene_of("pirate", motion, "forest"),
            priors=priors,
            backbone=self.backbone,
            options=OPTIONS,
            fps=8.0,
            crf=18,
            seed=3,
        )
        desk = Desk(self.store, self.folder)
        renderer.make(step, self.folder, desk, silent)
        return (self.folder / SCENE).read_bytes()


def test_a_scene_is_the_same_with_and_without_a_shelf_and_from_no_disk(tmp_path, backbone):
    studio = Studio(tmp_path, backbone)
    bowing, kicking = studio.learn("bowing"), studio.learn("kicking")
    useless = studio.learn("walking", usable=False)
    shelf = Shelf()
    with_shelf, without = SceneRenderer(["cpu"], shelf), SceneRenderer(["cpu"], Shelf(0))
    first = studio.render(with_shelf, "bowing", bowing, useless)
    assert first == studio.render(without, "bowing", bowing, useless)
    assert first != studio.render(without, "bowing", kicking)
    second = studio.render(with_shelf, "kicking", kicking, bowing)
    assert second == studio.render(without, "kicking", kicking, bowing)
    assert shelf.counts.loads == 3
    for prior in (bowing, kicking, useless):
        shutil.rmtree(studio.store.folder(prior))
    assert studio.render(with_shelf, "bowing", bowing, useless) == first
    assert studio.render(with_shelf, "kicking", kicking, bowing) == second
    assert (shelf.counts.loads, shelf.counts.evictions) == (3, 0)
    with pytest.raises(FileNotFoundError):
        studio.render(without, "bowing", bowing)


def test_two_devices_share_a_scene_and_make_the_same_one(tmp_path, backbone):
    studio = Studio(tmp_path, backbone)
    bowing = studio.learn("bowing")
    alone, shared = SceneRenderer(["cpu"]), SceneRenderer(["cpu", "cpu"])
    first = studio.render(alone, "bowing", bowing)
    assert studio.render(shared, "bowing", bowing) == first
    twin = shared._backbone.twin("cpu")
    assert studio.render(shared, "bowing", bowing) == first
    assert shared._backbone.twin("cpu") is twin, "made once"


def test_a_scene_that_leaves_no_step_out_has_the_name_it_always_had(backbone):
    def named(**options):
        return RenderScene(
            number=1,
            scene=scene_of("pirate", "bowing", "forest"),
            priors=(),
            backbone=backbone,
            options={**OPTIONS, **options},
            fps=8.0,
            crf=18,
            seed=3,
        ).artifact

    assert named(caching=0.0) == named()
    assert named(caching=0.1) not in (named(), named(caching=0.2))
