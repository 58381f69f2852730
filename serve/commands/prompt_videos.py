"""`dreamrunner evaluate --t2v-compbench`: the prompts of a benchmark become videos, named as its
own scripts expect them. Nothing is scored here.

Each prompt is planned as a story of one scene, without priors, and filmed by the durable flow. What
is there already is not made again; a prompt that fails is told in the end and stops no other.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.artifacts import Artifact, LocalStore
from cluster.director import at_work, direct_each
from cluster.locate import member, open_studio
from cluster.order import NO_PRIORS, Order
from cluster.profiles import Profile
from cluster.reader import FILM
from cluster.steps import StepError
from cluster.workdir import WorkDir
from serve.commands.filming import announce
from serve.delivery import deliver
from serve.display import Display
from serve.errors import InputError
from serve.prompt_files import Casting, Prompt, read_prompts
from serve.story_input import check_folder, check_work_dir

AT_ONCE = 32
"""Films under way. Those that wait for a worker cost little."""
MADE_OF = "made_of.json"
FAILED = 1


def make_videos(
    folders: Sequence[Path], profile: Profile, work: WorkDir, *, use_regions: bool, as_json: bool
) -> int:
    """Videos of the prompts in the first folder, in the second."""
    if len(folders) != 2:
        raise InputError("--t2v-compbench takes two folders: that of the prompts, and one to fill")
    prompts, out = read_prompts(folders[0]), folders[1]
    casting = Casting(profile)
    cast = {prompt: casting.characters(prompt) for prompt in prompts}
    _check_out(out, {"profile": profile.name, "regions": use_regions}, prompts)
    check_work_dir(work.root)
    missing = [prompt for prompt in prompts if not (out / prompt.video).is_file()]
    studio = open_studio(profile, work, regions=use_regions) if missing else None
    orders = {
        prompt: Order(
            topic=prompt.text,
            cast=tuple(member(who) for who in cast[prompt]),
            num_scenes=1,
            wishes=casting.motions(prompt),
            seed=prompt.number,
            priors=NO_PRIORS,
            studio=studio,
        )
        for prompt in missing
        if studio is not None
    }
    failed = _film(Console(stderr=True), orders, profile, work, out)
    _conclude(prompts, missing, failed, out, as_json)
    return FAILED if failed else 0


def _check_out(out: Path, how: dict[str, Any], prompts: Sequence[Prompt]) -> None:
    """Refuse a folder with videos of something else; else note what it is for."""
    made_of = json.dumps({**how, "prompts": {p.name: p.text for p in prompts}}, indent=1) + "\n"
    try:
        out.mkdir(parents=True, exist_ok=True)
        check_folder(out, f"output {out}")
        note = out / MADE_OF
        if note.exists() and note.read_text(encoding="utf-8") != made_of:
            raise InputError(
                f"folder {out} has videos of another profile or of other prompts ({MADE_OF}); name "
                "another one"
            )
        if not note.exists():
            note.write_text(made_of, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"output {out} cannot be used: {error}") from error


def _film(
    console: Console, orders: dict[Prompt, Order], profile: Profile, work: WorkDir, out: Path
) -> dict[Prompt, str]:
    """Why prompts failed; the videos of the others are there."""
    if not orders:
        return {}
    store = LocalStore(work.artifacts)
    # two categories may ask for the same
    once = {str(order.artifact): order for order in orders.values()}
    failed: dict[Prompt, str] = {}

    def ended(order: Order, how: Artifact | StepError) -> None:
        for prompt in (prompt for prompt, other in orders.items() if other == order):
            if isinstance(how, StepError):
                failed[prompt] = str(how)
            else:
                path = out / prompt.video
                path.parent.mkdir(exist_ok=True)
                # The benchmark takes every file of a category's folder for a video.
                deliver(store.folder(how) / FILM, path, aside_in=out)

    with (
        at_work(work, profile.resources.machine) as ray,
        Display(console, announce(console, list(once.values()), profile, work)) as display,
    ):
        asyncio.run(
            direct_each(
                ray,
                list(once.values()),
                work=work,
                resources=profile.resources,
                watch=display,
                titles={str(order.artifact): prompt.name for prompt, order in orders.items()},
                at_once=AT_ONCE,
                ended=ended,
            )
        )
    return failed


def _conclude(
    prompts: Sequence[Prompt],
    missing: Sequence[Prompt],
    failed: dict[Prompt, str],
    out: Path,
    as_json: bool,
) -> None:
    counts = {
        "made": len(missing) - len(failed),
        "found": len(prompts) - len(missing),
        "failed": {prompt.name: why for prompt, why in failed.items()},
    }
    if as_json:
        sys.stdout.write(json.dumps({"out": str(out), **counts}, indent=1) + "\n")
        return
    for prompt, why in failed.items():
        sys.stderr.write(f"{prompt.name}: {' '.join(why.split())}\n")
    told = f"{counts['made']} videos made, {counts['found']} were there, {len(failed)} failed"
    sys.stdout.write(f"{told}: {out}\n")
