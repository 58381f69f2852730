"""The regression gate: a few scenes whose figures may not fall by more than their noise.

    python -m benchmarks.gate            # film, measure, compare with benchmarks/gate.json
    python -m benchmarks.gate --write    # measure anew, with other seeds for the noise, and keep it

Five scenes of the puppet stories by the miniature, with the mermaid's prior and no motion prior: it
sees to planning's layouts, regions, subject priors and rendering. Clips and motion priors take
longer than a gate may; `benchmarks.ablation` sees to those.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.puppet_stories import chosen_stories
from cluster.director import at_work
from cluster.locate import find_model, open_studio
from cluster.order import NO_PRIORS, PriorKind
from cluster.profiles import Profile, load_profile
from cluster.workdir import WorkDir
from pipelines.metric_definitions import BINDING, BOX_CHARACTER, BOX_MOTION, MOTION
from pipelines.scene_figures import StoryFigures, means
from serve.commands.filming import announce
from serve.display import Display
from serve.ending import FAILED, GOES_ON
from serve.errors import InputError, ended
from serve.instruments import Instruments, find_instruments
from serve.measuring_crew import measure_on_ray
from serve.story_films import film_stories
from serve.story_input import check_work_dir

KEPT = Path(__file__).with_name("gate.json")
SCENES: Mapping[str, tuple[int, ...]] = {
    "mermaid-on-land": (2,),
    "robot-first-morning": (2,),
    "knight-without-a-dragon": (5,),
    "pirate-and-witch": (2,),
    "wizard-and-ghost": (2,),
}
LEARNED = "mermaid-on-land"
"""The story whose character is learned; the pirate's prior would take longer than it tells."""
SUBJECTS: frozenset[PriorKind] = frozenset({"subject"})
NUM_SEEDS = 5
"""Seeds that tell the noise."""
DEVIATIONS = 3.0
"""Standard deviations of a figure over seeds that are noise. Another kind of processor rounds
otherwise, which is like another seed, and with ten figures one is often two deviations off."""
ONE_SCENE = 1 / sum(map(len, SCENES.values()))
"""What one scene can change a share by: the least noise of what the judge counts."""
COUNTED = (BOX_CHARACTER, BOX_MOTION, BINDING)


@dataclass(frozen=True)
class Bar:
    """What a figure was, and by how much it may fall."""

    measured: float
    noise: float

    def holds(self, now: float) -> bool:
        return now >= self.measured - self.noise - 1e-9


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 all figures hold, 1 one fell, 2 bad input."""
    words = _parser().parse_args(arguments)
    return ended("gate", lambda: _run(words), stopped=GOES_ON)


def _run(words: argparse.Namespace) -> int:
    profile, work = load_profile("miniature"), WorkDir(words.work_dir)
    check_work_dir(work.root)
    instruments = find_instruments(profile, work)
    video_model = find_model("backbone", profile, work).content
    if words.write:
        return _write(profile, work, instruments, video_model, words.seeds)
    return _compare(profile, work, instruments)


def _compare(profile: Profile, work: WorkDir, instruments: Instruments) -> int:
    bars = read_bars(KEPT, instruments.known_as)
    (now,) = measure(profile, work, instruments, [0])
    sys.stdout.write("".join(f"{line}\n" for line in told(bars, now)))
    return FAILED if fallen(bars, now) else 0


def _write(
    profile: Profile, work: WorkDir, instruments: Instruments, video_model: str, num_seeds: int
) -> int:
    if num_seeds < 2:
        raise InputError(f"--seeds {num_seeds}: noise takes two at least")
    figures = measure(profile, work, instruments, range(num_seeds))
    kept = {
        "command": f"python -m benchmarks.gate --write --seeds {num_seeds}",
        "date": time.strftime("%F"),
        "video_model": video_model,
        "models": dict(instruments.known_as),
        "figures": {name: vars(bar) for name, bar in bars_of(figures).items()},
    }
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    sys.stdout.write(KEPT.read_text())
    return 0


def measure(
    profile: Profile, work: WorkDir, instruments: Instruments, seeds: Sequence[int]
) -> list[dict[str, float]]:
    """The mean of each figure over the set, for each seed. Raises `StepError`."""
    stories = chosen_stories(profile, SCENES)
    studio = open_studio(profile, work, plans=False)
    asked = [
        (one, one.order(studio, SUBJECTS if one.name == LEARNED else NO_PRIORS))
        for seed in seeds
        for one in (story.seeded(seed) for story in stories)
    ]
    console = Console(stderr=True)
    with at_work(work, profile.resources.machine) as ray:
        todo = announce(console, [order for _, order in asked], profile, work)
        with Display(console, todo) as display:
            films = film_stories(
                asked, ray=ray, work=work, resources=profile.resources, watch=display
            )
        found = measure_on_ray(
            ray.start(), instruments, films, pictures=False, watch=lambda *_: None
        )
    of_seed = [found.stories[i : i + len(stories)] for i in range(0, len(films), len(stories))]
    return [_means(figures) for figures in of_seed]


def _means(stories: Sequence[StoryFigures]) -> dict[str, float]:
    """How much moves is no merit, and is left out."""
    found = means(stories)
    return {name: mean.mean for name, mean in found.items() if mean and name != MOTION}


def bars_of(figures: Sequence[Mapping[str, float]]) -> dict[str, Bar]:
    """From the figures of each seed: their means, and their noise; of those that all have."""
    shared = [name for name in figures[0] if all(name in one for one in figures)]
    found = {name: [one[name] for one in figures] for name in shared}
    return {
        name: Bar(
            measured=round(float(np.mean(values)), 4),
            noise=round(
                max(
                    DEVIATIONS * float(np.std(values, ddof=1)), ONE_SCENE if name in COUNTED else 0
                ),
                4,
            ),
        )
        for name, values in found.items()
    }


def read_bars(path: Path, models: Mapping[str, str]) -> dict[str, Bar]:
    """What is kept. Raises `InputError` where other models measured it."""
    kept: dict[str, Any] = json.loads(path.read_text())
    if kept["models"] != dict(models):
        raise InputError(
            f"{path.name} was measured with {', '.join(kept['models'].values())}, not with "
            f"{', '.join(models.values())}: python -m benchmarks.gate --write"
        )
    return {name: Bar(**bar) for name, bar in kept["figures"].items()}


def fallen(bars: Mapping[str, Bar], now: Mapping[str, float]) -> list[str]:
    """Figures that fell by more than their noise, or are not measured any more."""
    return [name for name, bar in bars.items() if name not in now or not bar.holds(now[name])]


def told(bars: Mapping[str, Bar], now: Mapping[str, float]) -> list[str]:
    """Each figure in a line."""
    fell = fallen(bars, now)
    return [
        f"{name:16} {f'{100 * now[name]:6.1f}' if name in now else 'not measured'}  was "
        f"{100 * bar.measured:6.1f}, noise {100 * bar.noise:5.1f}: "
        f"{'fell' if name in fell else 'holds'}"
        for name, bar in bars.items()
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--work-dir", type=Path, default=Path(".dreamrunner"))
    parser.add_argument(
        "--write", action="store_true", help=f"measure anew and keep in {KEPT.name}"
    )
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS, help="that tell the noise")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
