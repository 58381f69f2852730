"""`dreamrunner prior`: learn one motion or one character."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.artifacts import hash_path
from cluster.estimate import estimate_kinds
from cluster.inline import Bench
from cluster.locate import member, open_studio
from cluster.profiles import Profile, load_profile
from cluster.reader import ADAPTER, PRIOR_REPORT, Reader
from cluster.steps import Step
from cluster.studio import Studio
from cluster.workdir import WorkDir
from pipelines.plan import Box
from retrieval_index.records import Clip, Scores
from serve.commands.library import MAX_MOTION_CHARS
from serve.delivery import deliver
from serve.display import Display, table
from serve.errors import InputError
from serve.story_input import (
    check_images,
    check_work_dir,
    check_writable,
    choose_characters,
)

MAX_CLIP_S = 6.0


def prior(
    *,
    profile_name: str,
    work_dir: Path,
    as_json: bool,
    motion: str | None = None,
    character: str | None = None,
    clips: Sequence[Path] = (),
    output: Path | None = None,
) -> int:
    """Learn a prior, and say by how much it is better than the backbone alone."""
    if (motion is None) == (character is None):
        raise InputError("say a motion, or --character NAME: one of the two")
    profile = load_profile(profile_name)
    if output is not None:
        check_writable(output)
    check_work_dir(work_dir)
    work = WorkDir(work_dir)
    if character is not None:
        learn: _Learn = _Subject(character, profile)
    else:
        learn = _Motion(str(motion), [whole_clip(path, str(motion)) for path in clips])
    studio = open_studio(profile, work, plans=False)
    console = Console(stderr=True)
    kinds = [*(step.kind for step in learn.before(studio)), learn.kind]
    with (
        work.locked(),
        Display(console, estimate_kinds(kinds, profile)) as display,
    ):
        bench = Bench(work, profile.resources, display)
        bench.make(learn.before(studio))
        step = learn.step(studio, Reader(bench.store))
        (folder,) = bench.make([step])
    if output is not None:
        deliver(folder / ADAPTER, output)
    report: dict[str, Any] = json.loads((folder / PRIOR_REPORT).read_bytes())
    told = {"name": str(step.artifact), "adapter": str(folder / ADAPTER), **report}
    if as_json:
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
    else:
        rows = [(name, str(value)) for name, value in told.items()]
        Console().print(table("Prior", ("", "value"), rows))
    return 0


class _Subject:
    """A character, from its reference images."""

    kind = "subject-prior"

    def __init__(self, name: str, profile: Profile) -> None:
        (self._character,) = choose_characters("", [name], profile)
        if not self._character.images:
            raise InputError(f"character {name} has no reference images to learn from")
        check_images(self._character)

    def before(self, studio: Studio) -> Sequence[Step]:
        return []

    def step(self, studio: Studio, reader: Reader) -> Step:
        return studio.learn_subject(member(self._character))


class _Motion:
    """A motion, from given clips or from what the library finds."""

    kind = "motion-prior"

    def __init__(self, motion: str, clips: Sequence[Clip]) -> None:
        if not motion.strip() or len(motion) > MAX_MOTION_CHARS:
            raise InputError(f"motion {motion!r:.60}: say one motion, such as bowing")
        self._motion, self._clips = " ".join(motion.split()), clips

    def before(self, studio: Studio) -> Sequence[Step]:
        if self._clips:
            return []
        if studio.corpus is None:
            raise InputError("the profile has no corpus to search; give videos with --clip")
        return [*studio.build_library(), studio.find_clips(self._motion)]

    def step(self, studio: Studio, reader: Reader) -> Step:
        if self._clips:
            return studio.learn_motion(self._motion, self._clips)
        found = reader.read_clips(studio.find_clips(self._motion).artifact)
        return studio.learn_motion(self._motion, found.kept)


_Learn = _Subject | _Motion


def whole_clip(path: Path, motion: str) -> Clip:
    """A video file as one clip, uncropped. Raises `InputError` for anything but a video."""
    from pipelines.video import VideoError, probe  # decoders are slow to import

    try:
        info = probe(path)
        identity = hash_path(path)
    except VideoError as error:
        raise InputError(f"clip {path}: {error}") from error
    return Clip(
        id=identity,
        video_id=identity,
        path=str(path.resolve()),
        start_s=0.0,
        end_s=min(info.duration_s, MAX_CLIP_S),
        crop=Box(left=0, top=0, right=1, bottom=1),
        caption=f"a person is {motion}",
        source="command line",
        licence="",
        scores=Scores(bm25=0, clip=0, viclip=0),
    )
