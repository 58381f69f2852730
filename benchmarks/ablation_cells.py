"""What the ablation films: its cells, its stories, and what each cell does without.

After arXiv 2411.16657, tables 2 and 3: retrieval-augmented motion priors and regions (SR3AI) each
with and without the other, and clips that were searched in four ways; ours beside them: subject
priors with and without.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.locate import open_studio
from cluster.order import ALL_PRIORS, Order, PriorKind
from cluster.profiles import Profile
from cluster.workdir import WorkDir
from retrieval_index.options import SearchOptions
from serve.story_set_input import AskedStory

SMALL: Mapping[str, tuple[int, ...]] = {
    "mermaid-on-land": (1, 4),
    "robot-first-morning": (3,),
    "pirate-and-witch": (1, 5),
}
"""Scenes of the version for two CPU cores: every held-out motion, two held-out characters, and two
scenes of two characters."""
SUBJECT_ALONE: frozenset[PriorKind] = frozenset({"subject"})
MOTION_ALONE: frozenset[PriorKind] = frozenset({"motion"})


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One way to film every story."""

    name: str
    priors: frozenset[PriorKind] = ALL_PRIORS
    regions: bool = True
    search: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the profile's section ``search``."""

    def profile(self, profile: Profile) -> Profile:
        """A profile that searches as this cell does."""
        numbers = {**profile.search.model_dump(), **self.search}
        return profile.model_copy(update={"search": SearchOptions.model_validate(numbers)})


NEITHER = Cell(name="neither", priors=SUBJECT_ALONE, regions=False)
REGIONS = Cell(name="regions", priors=SUBJECT_ALONE)
MOTIONS = Cell(name="motion priors", regions=False)
BOTH = Cell(name="both")
NO_SUBJECTS = Cell(name="both, no subject priors", priors=MOTION_ALONE)
UNFILTERED = Cell(
    name="both, 20 unfiltered clips",
    search={
        "max_candidates": 400,  # some show nobody; 20 are to be left
        "filter_attributes": False,
        "rank_by": "bm25",
        "filter_scores": False,
        "max_clips": 20,
        "min_clips": 0,
    },
)
FEW = Cell(name="both, 3 clips", search={"max_clips": 3, "min_clips": 3})
CELLS = (NEITHER, REGIONS, MOTIONS, BOTH, NO_SUBJECTS, UNFILTERED, FEW)


@dataclass(frozen=True)
class Shot:
    """A story, a seed and a cell: one film."""

    cell: Cell
    asked: AskedStory
    order: Order


def shots(
    stories: Sequence[AskedStory], cells: Sequence[Cell], profile: Profile, work: WorkDir, seed: int
) -> list[Shot]:
    """Every story in every cell, with its own seed and so many more; story by story, so that what
    is to be compared is made at about the same time. Raises `MissingError`."""
    studios = {
        cell.name: open_studio(cell.profile(profile), work, regions=cell.regions, plans=False)
        for cell in cells
    }
    found = []
    for story in (one.seeded(seed) for one in stories):
        for cell in cells:
            asked = replace(story, film=f"{cell.name}: {story.film}")
            order = asked.order(studios[cell.name], cell.priors)
            found.append(Shot(cell, asked, order))
    return found
