"""What the figures of the ablation are at their best: its stories as the puppet world itself draws
them, who does what where each plan says, measured like films.

    python -m benchmarks.drawn                                    # all stories
    python -m benchmarks.drawn --scenes mermaid-on-land:1,4

No model makes these pictures, so whatever is below 100 is the measuring's: what encoders tell
apart, what a judge misreads, and how much a figure likes or dislikes that something moves.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ablation_tables import TITLES, Place, mean_in, rows_of, spread
from benchmarks.puppet_stories import SeveralScenes, chosen_stories, scenes_of
from cluster.profiles import load_profile
from cluster.workdir import WorkDir
from miniature.cast import TRAVELLING
from miniature.places import WIDTH
from miniature.world import FPS, NUM_FRAMES, Puppet, Spec, render
from pipelines.metric_definitions import Scores
from pipelines.plan import Region, Scene, unique
from pipelines.video import Frames
from serve.ending import GOES_ON
from serve.errors import ended
from serve.film_input import GivenFilm
from serve.instruments import find_instruments
from serve.measuring_crew import measure_here
from serve.story_set_input import AskedStory

FEET = 0.97
"""The lowest that feet are, in frame heights: what the video model has met."""
HEIGHT = 0.72
"""Of a puppet, as a share of its box: arms reach above it and limbs beside it."""
HEIGHTS = (0.56, 0.76)
"""Of puppets that the video model has met, in frame heights."""


def puppet_of(regions: Sequence[Region]) -> Puppet:
    """One character of a scene: its regions, a key frame after the other."""
    first, last = regions[0].box, regions[-1].box
    motions = unique(region.motion for region in regions)
    x0, x1 = (WIDTH * (box.left + box.right) / 2 for box in (first, last))
    if not set(TRAVELLING) & set(motions):
        x0 = x1 = (x0 + x1) / 2
    return Puppet(
        character=regions[0].entity_id,
        motions=motions,
        x0=x0,
        x1=x1,
        ground=min(FEET, first.bottom),
        height=min(max(HEIGHTS[0], HEIGHT * (first.bottom - first.top)), HEIGHTS[1]),
        facing=1 if x1 >= x0 else -1,
    )


def spec_of(scene: Scene, seed: int) -> Spec:
    """A planned scene in the words of the world."""
    frames = scene.layout.key_frames
    shown = {name: [frame.region_of(name) for frame in frames] for name in scene.entity_ids}
    puppets = (puppet_of([one for one in regions if one]) for regions in shown.values())
    return Spec(place=scene.place, seed=seed, puppets=tuple(puppets))


@dataclass(frozen=True, kw_only=True)
class DrawnFilm(GivenFilm):
    """A story whose frames are drawn when somebody looks at them; there is no file."""

    def frames(self, number: int) -> Frames:
        """As `GivenFilm.frames`."""
        spec = spec_of(self.plan.scenes[number - 1], seed=number)
        pictures = render([spec]).frames[0].movedim(1, -1)
        return (pictures * 255).round().byte().numpy()


def drawn(story: AskedStory) -> DrawnFilm:
    """A story of the set, whose scenes are all given."""
    assert story.plan is not None, "every story of this set has its scenes"
    return DrawnFilm(
        name=story.name,
        path=Path(story.name),
        plan=story.plan,
        num_frames=NUM_FRAMES,
        fps=FPS,
        story=story.name,
        seed=0,
        cast={one.id: one for one in story.story.characters if one.images},
    )


def main(arguments: Sequence[str]) -> int:
    """Print every figure with its interval; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drawn", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--profile", default="miniature")
    parser.add_argument("--work-dir", type=Path, default=Path(".dreamrunner"))
    parser.add_argument(
        "--scenes", nargs="+", type=scenes_of, action=SeveralScenes, metavar="STORY:1,2"
    )
    words = parser.parse_args(arguments)
    return ended("drawn", lambda: _measure(words), stopped=GOES_ON)


def _measure(words: argparse.Namespace) -> int:
    profile = load_profile(words.profile)
    instruments = find_instruments(profile, WorkDir(words.work_dir))
    films = [drawn(story) for story in chosen_stories(profile, words.scenes)]
    measured = measure_here(instruments, films, pictures=False, watch=_told)
    rows: dict[Place, Scores] = {}
    for film, figures in zip(films, measured.stories, strict=True):
        rows |= rows_of(figures, film.plan, profile.known_motion_ids, film.cast.keys())
    for column, title in TITLES.items():
        sys.stdout.write(f"{title}: {spread(mean_in(rows, column))}\n")
    return 0


def _told(film: GivenFilm, number: int) -> None:
    if number == len(film.plan.scenes):
        sys.stderr.write(f"{film.name}: measured\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
