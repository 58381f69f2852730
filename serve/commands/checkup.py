"""`dreamrunner doctor`: what is missing on this machine for a profile, and how to get it."""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from cluster.locate import MissingError, find_model
from cluster.profiles import CHECKOUT, Profile, load_profile
from cluster.workdir import WorkDir
from serve.errors import InputError
from serve.story_input import check_work_dir

PACKAGES = {
    "torch": "torch",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "open_clip": "open-clip-torch",
    "ultralytics": "ultralytics",
    "ray": "ray[data]",
    "dbos": "dbos",
    "lancedb": "lancedb",
    "av": "av",
    "xgrammar": "xgrammar",
}
MIN_DISK_GIB, MIN_SHM_MIB = 2.0, 160
GIB = 1 << 30
_HOW_MODELS = {
    "backbone": "hf download zai-org/CogVideoX-2b (or -5b), or name a folder in a profile",
    "planner": "hf download an instruct model, or set engine to a server's URL",
    "clip": "a CLIP in open_clip's layout with safetensors weights, e.g. hf download "
    "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    "viclip": "python -m pipelines.convert viclip SOURCE.pth FOLDER, from the official ViCLIP",
    "detector": "python -m pipelines.convert detector SOURCE.pt FOLDER, from a YOLOv5",
    "dino": "hf download facebook/dinov2-base; `dreamrunner evaluate` alone needs it",
    "judge": "name its folder in a profile, or say judge: null to have no boxes read",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        state = "ok      " if self.ok else "MISSING "
        way = "" if self.ok else f"\n         get it: {self.remedy}"
        return f"{state} {self.what}: {self.found}{way}"


def doctor(*, profile_name: str, work_dir: Path, as_json: bool) -> int:
    """Look at everything, print it, and fail if something is missing."""
    profile = load_profile(profile_name)
    findings = list(examine(profile, work_dir))
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=1) + "\n")
    else:
        sys.stdout.write(f"{profile.name}: {profile.summary}\n")
        sys.stdout.writelines(f"{finding}\n" for finding in findings)
    return 0 if all(finding.ok for finding in findings) else 1


def examine(profile: Profile, work_dir: Path) -> Iterator[Finding]:
    """Everything that a profile needs, one finding each."""
    yield _python()
    yield from _packages()
    yield from _models(profile, WorkDir(work_dir))
    yield from _machine(profile, work_dir)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Finding("Python 3.11 or 3.12", fits, version, "make setup PYTHON=python3.11")


def _packages() -> Iterator[Finding]:
    for module, package in PACKAGES.items():
        there = importlib.util.find_spec(module) is not None
        found = "installed" if there else "not installed"
        yield Finding(f"package {package}", there, found, "make setup")


def _models(profile: Profile, work: WorkDir) -> Iterator[Finding]:
    for role, name in profile.models.model_dump().items():
        try:
            place = find_model(role, profile, work)
            yield Finding(f"{role} model", True, place.path)
        except MissingError:
            yield Finding(f"{role} model", False, name, _how_to_get(role, name))
    if profile.judge is not None:
        name = profile.judge.model
        yield Finding("judge", Path(name).is_dir(), name, _how_to_get("judge", name))


def _how_to_get(role: str, name: str) -> str:
    if name.startswith("miniature/") or str(CHECKOUT / "miniature") in name:
        recipe = Path(name).name.replace("cogvideox", "vae, then base")
        return f"git checkout {name}, or python -m miniature.train {recipe}"
    return _HOW_MODELS[role]


def _machine(profile: Profile, work_dir: Path) -> Iterator[Finding]:
    machine = profile.resources.machine
    cpus = os.cpu_count() or 1
    yield Finding(
        f"{machine.cpus} CPU cores", cpus >= machine.cpus, str(cpus), "slower, but it works"
    )
    if machine.gpus:
        yield _gpus(machine.gpus)
    memory = psutil.virtual_memory().total / GIB
    yield Finding("8 GiB of memory", memory >= 7.5, f"{memory:.1f} GiB", "a larger machine")
    if (shm := Path("/dev/shm")).is_dir():
        room = shutil.disk_usage(shm).total >> 20
        remedy = "docker run --shm-size=1g; without it Ray uses the disk and is slower"
        yield Finding(f"{MIN_SHM_MIB} MiB of /dev/shm", room >= MIN_SHM_MIB, f"{room} MiB", remedy)
    yield _folder(work_dir)


def _gpus(wanted: int) -> Finding:
    import torch  # only a profile with GPUs has to wait for it

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Finding(f"{wanted} GPUs", found >= wanted, str(found), "a GPU machine, or miniature")


def _folder(work_dir: Path) -> Finding:
    what = f"work folder {work_dir} with {MIN_DISK_GIB:.0f} GiB"
    try:
        check_work_dir(work_dir)
    except InputError as error:
        return Finding(what, False, str(error), "name another with --work-dir")
    free = shutil.disk_usage(work_dir).free / GIB
    return Finding(what, free >= MIN_DISK_GIB, f"{free:.1f} GiB free", "free some space")
