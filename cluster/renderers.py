"""Renders scenes: keeps the backbone, and priors that were read, from one scene to the next."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from cluster.artifacts import Artifact
from cluster.models import BackboneKeeper
from cluster.reader import SCENE
from cluster.shelf import Shelf
from cluster.steps import RenderScene
from cluster.trainers import read_prior
from cluster.workers import Desk
from pipelines.backbone import Backbone
from pipelines.lora import Adapter, settled
from pipelines.progress import Progress
from pipelines.render import RenderOptions, render_scene
from pipelines.video import encode

_OPTIONS = TypeAdapter(RenderOptions)


class SceneRenderer:
    """Renders scenes with their priors (arXiv 2411.16657, SR3AI).

    On two devices, each computes one branch of the guidance: a scene is ready sooner, and the same.
    """

    def __init__(self, devices: Sequence[str], shelf: Shelf | None = None) -> None:
        self._backbone = BackboneKeeper(devices[0])
        self._helper = devices[1] if len(devices) > 1 else None
        self._shelf = Shelf() if shelf is None else shelf

    def make(self, step: RenderScene, folder: Path, desk: Desk, progress: Progress) -> None:
        """Write ``scene.mp4``. Priors that were no better than the backbone are left out."""
        options = _OPTIONS.validate_python(step.options)
        backbone = self._backbone.load(step.backbone, compiled=options.compiled)
        found = [self._adapter(artifact, desk, backbone) for artifact in step.priors]
        frames = render_scene(
            backbone,
            step.scene,
            [adapter for adapter in found if adapter is not None],
            options=options,
            seed=step.seed,
            progress=progress,
            helper=None if self._helper is None else self._backbone.twin(self._helper),
        )
        encode(folder / SCENE, frames, step.fps, crf=step.crf)

    def _adapter(self, artifact: Artifact, desk: Desk, backbone: Backbone) -> Adapter | None:
        """A prior's adapter, from the shelf or from the store; None if it is of no use."""

        def load() -> Adapter | None:
            prior = read_prior(desk.store.folder(artifact))
            if not prior.report.usable:
                return None
            return settled(prior.adapter, backbone.device, backbone.dtype)

        return self._shelf.take(str(artifact), load)
