"""`dreamrunner index build` and `dreamrunner index search`."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.artifacts import Place
from cluster.estimate import estimate_kinds
from cluster.inline import Bench
from cluster.library import INDEX_REPORT
from cluster.locate import open_studio
from cluster.profiles import Profile, load_profile
from cluster.reader import CLIPS
from cluster.studio import Corpus, Studio
from cluster.workdir import WorkDir
from pipelines.plan import unique
from retrieval_index.records import IndexReport, SearchResult
from serve.commands import standing_library
from serve.commands.standing_library import tell_report
from serve.display import Display, table
from serve.errors import InputError
from serve.story_input import check_work_dir

MANIFESTS = (".jsonl", ".csv", ".parquet")
MAX_MOTION_CHARS = 100


def build(
    *,
    profile_name: str,
    work_dir: Path,
    as_json: bool,
    manifest: Path | None = None,
    index: str | None = None,
    **more: Any,
) -> int:
    """Build a clip library; every row that could not be indexed is counted with its reason."""
    if index is not None:
        if manifest is None:
            raise InputError("to build into --index, name a manifest")
        return standing_library.build(
            profile_name=profile_name,
            work_dir=work_dir,
            as_json=as_json,
            manifest=manifest,
            index=index,
            **more,
        )
    if more:
        raise InputError(f"--{next(iter(more))} goes with --index")
    profile, work, studio = _open(profile_name, work_dir, manifest)
    steps = studio.build_library()
    todo = estimate_kinds([step.kind for step in steps], profile)
    console = Console(stderr=True)
    with work.locked(), Display(console, todo) as display:
        folder = Bench(work, profile.resources, display).make(steps)[-1]
    report = IndexReport.model_validate_json((folder / INDEX_REPORT).read_bytes())
    return tell_report(f"Clip library {folder}", report, as_json)


def search(
    *,
    motion: str,
    profile_name: str,
    work_dir: Path,
    as_json: bool,
    explain: bool,
    manifest: Path | None = None,
    index: str | None = None,
) -> int:
    """Search a library that stands, or the corpus's, which is built first if it is not there."""
    if not motion.strip() or len(motion) > MAX_MOTION_CHARS:
        raise InputError(f"motion {motion!r:.60}: say one motion, such as bowing")
    motion = " ".join(motion.split())
    if index is not None and manifest is not None:
        raise InputError("--index names a library that stands, --manifest one to build: say one")
    if index is not None:
        found = standing_library.search(
            motion=motion, profile_name=profile_name, work_dir=work_dir, index=index
        )
    else:
        found = _search(motion, profile_name, work_dir, manifest)
    if as_json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
    else:
        _describe(found, explain)
    return 0


def _search(motion: str, profile_name: str, work_dir: Path, manifest: Path | None) -> SearchResult:
    profile, work, studio = _open(profile_name, work_dir, manifest)
    steps = [*studio.build_library(), studio.find_clips(motion)]
    todo = estimate_kinds([step.kind for step in steps], profile)
    console = Console(stderr=True)
    with work.locked(), Display(console, todo) as display:
        folder = Bench(work, profile.resources, display).make(steps)[-1]
    return SearchResult.model_validate_json((folder / CLIPS).read_bytes())


def _describe(found: SearchResult, explain: bool) -> None:
    console = Console()
    clips = [
        (
            Path(clip.path).name,
            f"{clip.start_s:.1f}-{clip.end_s:.1f}",
            f"{clip.scores.clip:.3f}",
            f"{clip.scores.viclip:.3f}",
            f"{clip.scores.mean:.3f}",
            clip.licence,
        )
        for clip in found.kept
    ]
    columns = ("video", "seconds", "CLIP", "ViCLIP", "mean", "licence")
    console.print(table(f"Clips of {found.motion}", columns, clips))
    for reason in unique(d.reason for d in found.decisions if d.kept and d.stage == "fallback"):
        console.print(f"Of these, not all score above the limit: {reason}.")
    if not explain:
        return
    fates = [
        (d.clip_id, d.stage, f"{d.score:.3f}", f"{d.threshold:.3f}", d.reason)
        for d in found.decisions
        if not d.kept
    ]
    console.print(table("Dropped", ("candidate", "stage", "score", "limit", "why"), fates))


def _open(
    profile_name: str, work_dir: Path, manifest: Path | None
) -> tuple[Profile, WorkDir, Studio]:
    profile = load_profile(profile_name)
    given = None if manifest is None else Corpus(manifest=_manifest(manifest))
    check_work_dir(work_dir)
    work = WorkDir(work_dir)
    studio = open_studio(profile, work, plans=False)
    if given is not None:
        studio = studio.model_copy(update={"corpus": given})
    if studio.corpus is None:
        raise InputError(f"profile {profile_name} has no corpus; give one with --manifest")
    return profile, work, studio


def _manifest(path: Path) -> Place:
    if path.suffix.lower() not in MANIFESTS:
        raise InputError(f"manifest {path} is none of {', '.join(MANIFESTS)}")
    try:
        if not path.stat().st_size:
            raise InputError(f"manifest {path} is empty")
        return Place.of(path)
    except OSError as error:
        raise InputError(f"manifest {path} cannot be read: {error.strerror}") from error
