"""The prompt files of T2V-CompBench (arXiv 2407.14505), or any laid out like them.

A folder has one text file a category, one prompt a line, such as ``5_action_binding.txt``. The
video of line N belongs into a folder of the category's name, without the number, as ``000N.mp4``.
Bad files are told as `InputError` before any work is begun.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from cluster.cast import read_cast
from cluster.profiles import Profile
from pipelines.plan import Character
from pipelines.plan_words import names
from serve.errors import InputError

MAX_FILE_BYTES = 4 << 20
MAX_PROMPTS = 9999
"""Of one category: names of videos have four digits."""
MAX_PROMPT_CHARS = 2000
_NUMBERED = re.compile(r"^\d+_")


@dataclass(frozen=True)
class Prompt:
    """One line, and where its video goes."""

    category: str
    number: int
    """Of the line, from 1."""
    text: str

    @property
    def video(self) -> Path:
        """In the folder of all videos."""
        return Path(self.category) / f"{self.number:04}.mp4"

    @property
    def name(self) -> str:
        return f"{self.category}/{self.number:04}"


def read_prompts(folder: Path) -> tuple[Prompt, ...]:
    """All prompts of a folder, category by category."""
    if not folder.is_dir():
        raise InputError(f"prompts {folder} is no folder; name the one that has the .txt files")
    files = {file: _NUMBERED.sub("", file.stem) for file in sorted(folder.glob("*.txt"))}
    if not files:
        raise InputError(f"folder {folder} has no .txt file with a prompt on each line")
    categories = list(files.values())
    if again := [name for name in categories if categories.count(name) > 1]:
        raise InputError(f"two files of {folder} are of category {again[0]}; keep one")
    return tuple(prompt for file, name in files.items() for prompt in _of_file(file, name))


def _of_file(file: Path, category: str) -> list[Prompt]:
    lines = _lines(file)
    while lines and not lines[-1]:
        lines.pop()
    if not 1 <= len(lines) <= MAX_PROMPTS:
        raise InputError(f"prompts {file} has {len(lines)} lines; 1 to {MAX_PROMPTS} can be named")
    for number, line in enumerate(lines, start=1):
        if not any(map(str.isalnum, line)):
            raise InputError(f"prompts {file}, line {number}: there is no word in it")
        if len(line) > MAX_PROMPT_CHARS:
            raise InputError(f"prompts {file}, line {number}: over {MAX_PROMPT_CHARS} characters")
    return [Prompt(category, number, line) for number, line in enumerate(lines, start=1)]


def _lines(file: Path) -> list[str]:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"prompts {file} are larger than {MAX_FILE_BYTES >> 20} MiB")
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").split("\n")]
    except OSError as error:
        raise InputError(f"prompts {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"prompts {file} are not text in UTF-8") from error


class Casting:
    """Who is in a prompt, as far as a profile can say before it is planned.

    A language model names those itself (`pipelines.casting`). A planner that was trained on one
    world (``style: brief``) cannot: there, the characters are those of its cast that the prompt
    names.
    """

    def __init__(self, profile: Profile) -> None:
        self._names_them = profile.planner["style"] != "brief"
        self._cast = read_cast(Path(profile.cast)) if profile.cast else {}
        self._most = profile.planner["max_cast"]
        self._motions = profile.planner_words("motions")

    def characters(self, prompt: Prompt) -> tuple[Character, ...]:
        """Those it names, without their images; nobody, where the planner is to say it."""
        if self._names_them:
            return ()
        found = [who for who in self._cast.values() if names(prompt.text, who.name)]
        if not found or len(found) > int(str(self._most)):
            raise InputError(
                f"prompt {prompt.name} names {len(found)} characters, and this profile's planner "
                f"shows 1 to {self._most} of {', '.join(self._cast)}: take a profile whose planner "
                "has style full"
            )
        return tuple(who.model_copy(update={"images": ()}) for who in found)

    def motions(self, prompt: Prompt) -> tuple[str, ...]:
        """Those of the planner's vocabulary that it names: they must occur."""
        return tuple(motion for motion in self._motions if names(prompt.text, motion))
