"""Cuts films: joins the scenes, draws the contact sheet, writes the film's record."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.artifacts import Artifact
from cluster.reader import FILM, PRIOR_REPORT, RECORD_OF_FILM, SCENE, SHEET
from cluster.steps import CutFilm
from cluster.workers import Desk
from pipelines.film import contact_sheet, stitch
from pipelines.progress import Progress


class Editor:
    """Keeps nothing between films."""

    def make(self, step: CutFilm, folder: Path, desk: Desk, progress: Progress) -> None:
        """Write ``film.mp4``, ``film.png`` and ``film.json``."""
        scenes = [desk.store.folder(scene) / SCENE for scene in step.scenes]
        progress(0, 2)
        stitch(scenes, folder / FILM)
        progress(1, 2)
        contact_sheet(step.plan, scenes, folder / SHEET)
        progress(2, 2)
        record = {
            "topic": step.plan.topic,
            "characters": step.plan.characters,
            "stages": [_stage(making, desk) for making in step.makings],
            "priors": list(_priors(step, desk)),
            "plan": step.plan.model_dump(mode="json"),
        }
        (folder / RECORD_OF_FILM).write_text(json.dumps(record, indent=1) + "\n")


def _stage(artifact: Artifact, desk: Desk) -> dict[str, Any]:
    made = desk.store.record(artifact)
    return {"label": made["label"], "artifact": str(artifact), "seconds": made["seconds"]}


def _priors(step: CutFilm, desk: Desk) -> Iterator[dict[str, Any]]:
    """What the reports of learning say about every prior on the way."""
    for artifact in step.makings:
        report = desk.store.folder(artifact) / PRIOR_REPORT
        if artifact.kind.endswith("-prior"):
            told: dict[str, Any] = json.loads(report.read_bytes())
            yield {**_stage(artifact, desk), **told}
