"""Profiles: every model and every number of a run, in one YAML file.

A profile states everything, or ``extends`` one that does and says what differs. Unknown keys are
errors at every depth: the sections whose options live with code that is slow to import are held
against the shipped miniature's, which states them all. Nothing is loaded here, and no model needs
to be there to read a profile.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, JsonValue, ValidationError

from cluster.resources import Resources
from cluster.steps import Options
from pipelines.plan import Record, slug
from pipelines.plan_words import LintOptions
from retrieval_index.options import SearchOptions, SegmentRecipe, VideoLimits, Workers

CHECKOUT = Path(__file__).resolve().parent.parent
SHIPPED = Path(__file__).resolve().parent / "profiles"
REFERENCE = "miniature"
_FREE_SECTIONS = ("planner", "motion_prior", "subject_prior", "render")
_MAX_BYTES = 1 << 20


class ProfileError(ValueError):
    """A profile cannot be used; the message says where and what to change."""


class ModelPaths(Record):
    """Where the models are: folders (relative ones in the profile's folder, or in the checkout),
    or ``owner/name`` of a hub's snapshot that this machine has."""

    backbone: str
    """A CogVideoX pipeline folder."""
    planner: str
    """A causal language model folder, or what a server calls its model."""
    clip: str
    """An open_clip folder."""
    viclip: str
    detector: str
    dino: str
    """A transformers DINOv2 folder; it measures films and makes none."""


class JudgeSource(Record):
    """Who reads which character does which motion in a planned box, where somebody can."""

    factory: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """A `pipelines.binding.JudgeFactory`, as ``module:name``."""
    model: str
    """Its folder."""


class Defaults(Record):
    """What a command films when it is not told."""

    characters: tuple[str, ...]
    """Names in the cast; those that the topic names come first, and alone where it says by a
    motion of the planner's what they do."""
    num_characters: Annotated[int, Field(ge=1, le=8)] = 2
    wishes: tuple[str, ...] = ()
    """Motions that must occur where the topic names none."""
    num_scenes: Annotated[int, Field(ge=1, le=20)] = 3


class CorpusSource(Record):
    """Where clips of motions come from."""

    library: str | None = None
    """A library that stands (`dreamrunner index build --index`), a folder or URI; or"""
    manifest: str | None = None
    """a manifest file; or"""
    make: tuple[str, ...] = ()
    """a command that writes a corpus into the folder ``OUT``,"""
    manifest_name: str = "manifest.jsonl"
    """with a manifest of this name in it,"""
    sources: tuple[str, ...] = ()
    """and the files that its result depends on."""


class IndexNumbers(Record):
    """How a corpus becomes a clip library."""

    recipe: SegmentRecipe
    limits: VideoLimits
    workers: Workers


class Profile(Record):
    """A whole run."""

    name: str
    summary: str
    models: ModelPaths
    engine: str
    """``transformers``, ``vllm``, or the URL of a server that speaks the OpenAI protocol."""
    known_motions: tuple[str, ...]
    """Motions that the backbone does without a prior."""
    cast: str | None
    """A folder of characters, one folder each."""
    defaults: Defaults
    corpus: CorpusSource | None
    planner: Options
    index: IndexNumbers
    search: SearchOptions
    motion_prior: Options
    subject_prior: Options
    token: str
    """The word that stands before a learned character's phrase in captions."""
    prior_seed: Annotated[int, Field(ge=0)]
    render: Options
    judge: JudgeSource | None = None
    """It measures films and makes none."""
    fps: Annotated[float, Field(gt=0, le=60)]
    crf: Annotated[int, Field(ge=0, le=40)]
    resources: Resources
    expected_s: dict[str, float]
    """Seconds that a step of each kind takes on the machine the profile is made for."""

    @property
    def known_motion_ids(self) -> tuple[str, ...]:
        return tuple(slug(motion) for motion in self.known_motions)

    @property
    def lint_options(self) -> LintOptions:
        """What the linter of plans is told of this profile's planner."""
        return LintOptions.of(self.planner_words("travelling"), self.planner_words("motions"))

    def planner_words(self, name: str) -> tuple[str, ...]:
        """A list that the planner is told; empty where it is none."""
        value = self.planner[name]
        return tuple(map(str, value)) if isinstance(value, list) else ()


def shipped_profiles() -> tuple[str, ...]:
    """Names of the profiles that come with the project."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def load_profile(name: str) -> Profile:
    """The shipped profile of this name, or the one in this YAML file. Raises `ProfileError`."""
    merged = _merged(_file_of(name), depth=0)
    _check_free_sections(name, merged)
    try:
        return Profile.model_validate(merged)
    except ValidationError as error:
        raise ProfileError(f"profile {name}: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """The first fault of a validation in one line, and how many more there are."""
    faults = error.errors(include_url=False)
    where = ".".join(str(part) for part in faults[0]["loc"])
    what = " ".join(str(faults[0]["msg"]).removeprefix("Value error, ").split())
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where}: {what}{more}" if where else f"{what}{more}"


def _file_of(name: str) -> Path:
    if name in shipped_profiles():
        return SHIPPED / f"{name}.yaml"
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"} or not path.is_file():
        known = ", ".join(shipped_profiles())
        raise ProfileError(f"no profile {name!r}: say one of {known}, or name a .yaml file")
    return path


def _merged(path: Path, depth: int) -> dict[str, Any]:
    """A profile's content over that of the one it extends."""
    if depth > 8:
        raise ProfileError(f"profile {path}: extends itself")
    content = _placed(_read(path), path.parent)
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise ProfileError(f"profile {path}: extends takes one name, got {base!r}")
    beside = path.parent / base
    below = _merged(beside if beside.is_file() else _file_of(base), depth + 1)
    return _over(below, content, replaced=("corpus",))


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ProfileError(f"profile {path} is larger than {_MAX_BYTES >> 20} MiB")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ProfileError(f"profile {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ProfileError(f"profile {path}: expected keys and values, got {content!r:.40}")
    return content


def _placed(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Relative paths made absolute, where something lies there."""
    placed = dict(content)
    sections = {"models": None, "corpus": ("manifest", "sources"), "judge": ("model",)}
    for section, keys in sections.items():
        part = content.get(section)
        if isinstance(part, dict):
            chosen = {key: part[key] for key in (keys or part) if key in part}
            placed[section] = {**part, **{k: _found(v, folder) for k, v in chosen.items()}}
    if "cast" in content:
        placed["cast"] = _found(content["cast"], folder)
    return placed


def _found(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_found(part, folder) for part in value]
    if not isinstance(value, str):
        return value
    for base in (folder, CHECKOUT):
        if (base / value).exists():
            return str((base / value).resolve())
    return value


def _over(
    below: Mapping[str, Any], above: Mapping[str, Any], replaced: tuple[str, ...] = ()
) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(name), dict)
        merged[name] = _over(below[name], value) if both and name not in replaced else value
    return merged


def _check_free_sections(name: str, content: Mapping[str, Any]) -> None:
    reference = _read(SHIPPED / f"{REFERENCE}.yaml")
    for section in _FREE_SECTIONS:
        _check(f"profile {name}: {section}", content.get(section), reference[section])


def _check(where: str, value: JsonValue, reference: JsonValue) -> None:
    """Raise `ProfileError` unless a value has the keys and the kinds of another."""
    if isinstance(reference, dict):
        if not isinstance(value, dict):
            raise ProfileError(f"{where}: expected a section of keys and values, got {value!r:.40}")
        for key in value.keys() - reference.keys():
            near = difflib.get_close_matches(key, list(reference), n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(reference)}"
            raise ProfileError(f"{where}.{key} is unknown{hint}")
        for key in reference.keys() - value.keys():
            raise ProfileError(f"{where}.{key} is missing")
        for key, part in value.items():
            _check(f"{where}.{key}", part, reference[key])
    elif _kind(value) != _kind(reference) and None not in (value, reference):
        raise ProfileError(f"{where}: expected {_kind(reference)}, got {value!r:.40}")


def _kind(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "text"
