"""`dreamrunner index build|replay|dead|search --index URI`: a library that stays, and grows.

It is no artifact of a film: many runs write to it, one after the other, and searches go on
meanwhile. A build that was killed goes on when it is called again.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.locate import find_model
from cluster.profiles import Profile, load_profile
from cluster.steps import first_line
from cluster.workdir import WorkDir
from retrieval_index.manifest import KINDS, json_or_text
from retrieval_index.options import IndexOptions, LibraryModels, Pool, Workers
from retrieval_index.records import IndexReport, SearchResult
from serve.build_display import BuildDisplay
from serve.display import table
from serve.errors import InputError, UnavailableError

STAGES = ("read", "track", "embed")


def build(
    *,
    profile_name: str,
    work_dir: Path,
    as_json: bool,
    manifest: Path,
    index: str,
    workers: str = "",
    recheck: bool = False,
) -> int:
    """Bring a library up to date with a manifest, and tell what was done."""
    from retrieval_index.build import build_index

    if manifest.suffix.lower() not in KINDS:
        raise InputError(f"manifest {manifest} is none of {', '.join(KINDS)}")
    if not manifest.is_file() or not manifest.stat().st_size:
        raise InputError(f"manifest {manifest} is not there, or empty")
    if Path(index).is_file():
        raise InputError(f"library {index} is a file; name a folder")
    options = index_options(load_profile(profile_name), WorkDir(work_dir), workers)
    with BuildDisplay(Console(stderr=True)) as display, _said_well():
        report = build_index(manifest, index, options=options, watch=display, recheck=recheck)
    return _tell(report, as_json)


def replay(
    *, profile_name: str, work_dir: Path, as_json: bool, index: str, workers: str = ""
) -> int:
    """Try a library's dead letters again, and tell what became of them."""
    from retrieval_index.build import replay as replay_index

    options = index_options(load_profile(profile_name), WorkDir(work_dir), workers)
    with BuildDisplay(Console(stderr=True)) as display, _said_well():
        report = replay_index(index, options=options, watch=display)
    return _tell(report, as_json)


def dead(*, as_json: bool, index: str) -> int:
    """Tell which rows a library has as dead letters, and why; by their paths."""
    from retrieval_index.snapshot import connect
    from retrieval_index.tables import Library

    with _said_well():
        connect(index)
        letters = sorted(map(_letter, Library(index).dead_letters()), key=lambda one: one["path"])
    if as_json:
        sys.stdout.write(json.dumps(letters, indent=1) + "\n")
        return 0
    for letter in letters:
        words = (letter["path"], letter["stage"], letter["reason"], letter["message"])
        sys.stdout.write(": ".join(map(_in_one_line, words)) + "\n")
    return 0


def _letter(found: dict[str, Any]) -> dict[str, Any]:
    """A dead letter, its row as data. Its path is the row itself where that says none."""
    row = json_or_text(found["row"])
    said = row.get("path") if isinstance(row, dict) else None
    return {
        "path": said if isinstance(said, str) and said else found["row"],
        **{name: found[name] for name in ("stage", "reason", "message", "attempts")},
        "time": found["time"].isoformat(),
        "row": row,
    }


def _in_one_line(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)


def search(*, motion: str, profile_name: str, work_dir: Path, index: str) -> SearchResult:
    """Clips of one motion, from the library as it is now."""
    from retrieval_index.search import Index

    profile = load_profile(profile_name)
    options = index_options(profile, WorkDir(work_dir))
    with _said_well():
        opened = Index.open(index, options.models)
        return opened.search([motion], options=profile.search)[0]


@contextmanager
def _said_well() -> Iterator[None]:
    """What a build refuses is bad input; a library that cannot be had now is none."""
    from retrieval_index.lease import LibraryBusyError
    from retrieval_index.stages import LibraryUnreachableError

    try:
        yield
    except (LibraryBusyError, LibraryUnreachableError) as error:
        raise UnavailableError(first_line(error)) from error
    except ValueError as error:
        raise InputError(str(error)) from error


def index_options(profile: Profile, work: WorkDir, workers: str = "") -> IndexOptions:
    """A profile's models and numbers, with other numbers of workers. Raises `InputError`."""
    models = {role: find_model(role, profile, work).path for role in LibraryModels.model_fields}
    return IndexOptions(
        models=LibraryModels(**models),
        recipe=profile.index.recipe,
        limits=profile.index.limits,
        workers=_counted(profile.index.workers, workers),
    )


def _counted(workers: Workers, words: str) -> Workers:
    """As many workers as "read=4,track=2" or "4" says."""
    counts: dict[str, int] = {}
    for word in filter(None, words.split(",")):
        stage, found, count = word.partition("=")
        if not (count if found else stage).isdigit() or (found and stage not in STAGES):
            raise InputError(f"workers {words!r}: say 4, or read=8,track=2,embed=2")
        counts |= {stage: int(count)} if found else dict.fromkeys(STAGES, int(stage))
    if 0 in counts.values():
        raise InputError(f"workers {words!r}: every stage needs one")
    pools = {s: _resized(workers.pool(s), counts[s]) for s in counts}
    return workers.model_copy(update=pools)


def _resized(pool: Pool, count: int) -> Pool:
    return pool.model_copy(update={"count": count})


def _tell(report: IndexReport, as_json: bool) -> int:
    return tell_report(f"Library {report.uri}", report, as_json)


def tell_report(name: str, report: IndexReport, as_json: bool) -> int:
    """A report for programs, or for people below a name that may be longer than its table is wide;
    the exit code."""
    if as_json:
        sys.stdout.write(report.model_dump_json(indent=1) + "\n")
        return 0
    console = Console()
    console.print(name, markup=False, highlight=False, soft_wrap=True)
    console.print(table("", ("", "count"), rows_of(report)))
    return 0


def rows_of(report: IndexReport) -> list[tuple[str, str]]:
    """Its rows."""
    return [
        ("rows of the manifest", str(report.rows_in)),
        ("known before", str(report.known)),
        ("indexed", str(report.indexed)),
        ("segments", str(report.num_segments)),
        ("dead letters", str(report.dead)),
        *((f"  {reason}", str(count)) for reason, count in report.dead_reasons.items()),
        *((f"{stage}, s", f"{s:.1f}") for stage, s in report.stage_seconds.items()),
        ("in all, s", f"{report.seconds:.1f}"),
        ("slowest stage", report.bottleneck or "none"),
        ("videos now", str(report.total_videos)),
        ("segments now", str(report.total_segments)),
        ("dead letters now", str(report.total_dead)),
    ]
