"""Finds what a profile names, and makes a studio of it: models hashed, files in place.

Hashes of large folders are kept in the work folder beside the sizes and times of their files, so
that a model of many gigabytes is read once.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cluster.artifacts import Place, hash_path
from cluster.profiles import CorpusSource, JudgeSource, Profile
from cluster.steps import StandingLibrary
from cluster.studio import Corpus, Member, Models, Numbers, Studio
from cluster.workdir import WorkDir
from pipelines.plan import Character
from pipelines.whole_file import whole

_WORTH_KEEPING_BYTES = 256 << 20


class MissingError(Exception):
    """Something that a profile names is not on this machine."""


def open_studio(
    profile: Profile, work: WorkDir, *, regions: bool = True, plans: bool = True
) -> Studio:
    """Find everything a profile names; the planner only if it plans. Raises `MissingError`."""
    roles = [role for role in Models.model_fields if plans or role != "planner"]
    models = {role: find_model(role, profile, work) for role in roles}
    unasked = profile.models.planner
    models.setdefault("planner", Place(path=unasked, content=unasked))
    render = profile.render if regions else {**profile.render, "regions": False}
    return Studio(
        models=Models(**models),
        engine=profile.engine,
        corpus=None if profile.corpus is None else _find_corpus(profile.corpus),
        known_motions=profile.known_motion_ids,
        numbers=Numbers(
            planner=profile.planner,
            recipe=profile.index.recipe.model_dump(mode="json"),
            limits=profile.index.limits.model_dump(mode="json"),
            workers=profile.index.workers.model_dump(mode="json"),
            search=profile.search.model_dump(mode="json"),
            motion_prior=profile.motion_prior,
            subject_prior=profile.subject_prior,
            render=render,
        ),
        token=profile.token,
        prior_seed=profile.prior_seed,
        fps=profile.fps,
        crf=profile.crf,
    )


def find_model(role: str, profile: Profile, work: WorkDir) -> Place:
    """A model's folder and content: a local folder, or a hub's snapshot that is already here.

    A planner behind a server is what the server calls it. Raises `MissingError`.
    """
    name: str = getattr(profile.models, role)
    if (folder := Path(name)).is_dir():
        return _place(folder, work)
    if snapshot := _hub_snapshot(name):
        return Place(path=str(snapshot), content=f"{name}@{snapshot.name}")
    if role == "planner" and profile.engine.startswith("http"):
        return Place(path=name, content=name)
    raise MissingError(
        f"the {role} model {name} is not on this machine; `dreamrunner doctor` says how to get it"
    )


def model_folder(name: str) -> Path | None:
    """Where a model is on this machine, if it is."""
    return folder if (folder := Path(name)).is_dir() else _hub_snapshot(name)


def find_judge(source: JudgeSource, work: WorkDir) -> Place:
    """A judge's folder and content. Raises `MissingError`."""
    if not (folder := Path(source.model)).is_dir():
        raise MissingError(
            f"the judge {source.model} is not on this machine; `dreamrunner doctor` says how to "
            "get it"
        )
    return _place(folder, work)


@dataclass(frozen=True)
class VideoShape:
    """What a backbone makes."""

    width_px: int
    height_px: int
    num_frames: int


def video_shape(backbone: Place) -> VideoShape:
    """Read from a CogVideoX pipeline folder's configs; nothing is loaded."""
    folder = Path(backbone.path)
    transformer = json.loads((folder / "transformer" / "config.json").read_text())
    vae = json.loads((folder / "vae" / "config.json").read_text())
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    return VideoShape(
        width_px=transformer["sample_width"] * scale,
        height_px=transformer["sample_height"] * scale,
        num_frames=transformer["sample_frames"],
    )


def member(character: Character) -> Member:
    """A character with its images hashed."""
    images = tuple(Place.of(image) for image in character.images)
    return Member(name=character.name, phrase=character.phrase, images=images)


def _find_corpus(source: CorpusSource) -> Corpus:
    if source.library is not None:
        return Corpus(library=_find_library(source.library))
    if source.manifest is not None:
        return Corpus(manifest=_file(source.manifest))
    return Corpus(
        make=source.make,
        manifest_name=source.manifest_name,
        sources=tuple(_file(path) for path in source.sources),
    )


def with_library_of_now(studio: Studio, profile: Profile) -> Studio:
    """The studio with its standing library as it is now. Raises `MissingError`."""
    if profile.corpus is None or profile.corpus.library is None:
        return studio
    return studio.model_copy(update={"corpus": _find_corpus(profile.corpus)})


def _find_library(uri: str) -> StandingLibrary:
    """A library as it is now: what is added later is for those who look later."""
    from retrieval_index.snapshot import Snapshot  # late: it loads the database

    try:
        return StandingLibrary(uri=uri, version=Snapshot.open(uri).version)
    except ValueError as error:
        raise MissingError(str(error)) from error


def _file(name: str) -> Place:
    try:
        return Place.of(Path(name))
    except OSError as error:
        raise MissingError(f"the profile's file {name} cannot be read: {error.strerror}") from error


def _hub_snapshot(name: str) -> Path | None:
    """The folder of the newest cached snapshot of ``owner/name``, without any network."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    repo = cache / f"models--{name.replace('/', '--')}"
    reference = repo / "refs" / "main"
    if name.count("/") != 1 or not reference.is_file():
        return None
    snapshot = repo / "snapshots" / reference.read_text().strip()
    return snapshot if snapshot.is_dir() else None


def _place(folder: Path, work: WorkDir) -> Place:
    return Place(path=str(folder.resolve()), content=_content(folder.resolve(), work))


def _content(folder: Path, work: WorkDir) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    if sum(size for _, size, _ in stats) < _WORTH_KEEPING_BYTES:
        return hash_path(folder)
    signature = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    kept = work.root / "hashes" / signature
    if kept.is_file() and (content := kept.read_text()):
        return content
    content = hash_path(folder)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with whole(kept) as aside:
        aside.write_text(content)
    return content
