"""What the ablation found: rows of figures, differences of the same scenes, and which of the
paper's orders they show. Pure; figures are those of `pipelines.scene_figures`."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.ablation_cells import (
    BOTH,
    CELLS,
    FEW,
    MOTIONS,
    NEITHER,
    NO_SUBJECTS,
    REGIONS,
    UNFILTERED,
    Cell,
)
from pipelines.bootstrap import Mean, mean_of
from pipelines.evaluation_page import NOTHING, figure
from pipelines.metric_definitions import (
    BINDING,
    BOX_CHARACTER,
    BOX_MOTION,
    CHARACTER_CLIP,
    CHARACTER_DINO,
    FINE_CLIP,
    FINE_VICLIP,
    MOTION,
    TEXT_CLIP,
    TEXT_VICLIP,
    TRANSITION,
    Scores,
)
from pipelines.plan import StoryPlan
from pipelines.plan_words import names
from pipelines.scene_figures import SceneFigures, StoryFigures

HELD_OUT_CLIP, HELD_OUT_VICLIP = "held_out_clip", "held_out_viclip"
HELD_OUT_MOTION, LEARNED_CHARACTER = "held_out_motion", "learned_character"
TITLES = {
    FINE_CLIP: "fine CLIP",
    FINE_VICLIP: "fine ViCLIP",
    TEXT_CLIP: "full CLIP",
    TEXT_VICLIP: "full ViCLIP",
    TRANSITION: "transition",
    MOTION: "motion",
    BOX_CHARACTER: "box character",
    BOX_MOTION: "box motion",
    BINDING: "binding",
    CHARACTER_CLIP: "character CLIP",
    CHARACTER_DINO: "character DINO",
    LEARNED_CHARACTER: "box character, with a prior",
    HELD_OUT_CLIP: "CLIP of held-out motions",
    HELD_OUT_VICLIP: "ViCLIP of held-out motions",
    HELD_OUT_MOTION: "box motion of held-out motions",
}

Place = tuple[str, int, int]
"""Story, seed, number of the scene: what is the same in every cell."""
Rows = Mapping[Place, Scores]
"""The figures of one cell."""


@dataclass(frozen=True)
class Table:
    """Cells side by side, and whose differences are told."""

    title: str
    rows: Mapping[str, str]
    """Name of a cell by what the row is called."""
    columns: tuple[str, ...]
    differences: tuple[tuple[str, str], ...]
    """Cells: what is said to be better, and what to be worse."""


TABLES = (
    Table(
        "A. Motion priors (retrieval) and regions (SR3AI), with subject priors throughout",
        {
            "neither": NEITHER.name,
            "regions": REGIONS.name,
            "motion priors": MOTIONS.name,
            "both": BOTH.name,
        },
        (
            *(FINE_CLIP, FINE_VICLIP, TEXT_CLIP, TEXT_VICLIP, TRANSITION, MOTION),
            *(BOX_CHARACTER, BOX_MOTION, BINDING),
        ),
        (
            (REGIONS.name, NEITHER.name),
            (BOTH.name, MOTIONS.name),
            (MOTIONS.name, NEITHER.name),
            (BOTH.name, REGIONS.name),
            (BOTH.name, NEITHER.name),
        ),
    ),
    Table(
        "B. Subject priors, with motion priors and regions throughout",
        {"without subject priors": NO_SUBJECTS.name, "with subject priors": BOTH.name},
        (CHARACTER_CLIP, CHARACTER_DINO, LEARNED_CHARACTER, BOX_CHARACTER),
        ((BOTH.name, NO_SUBJECTS.name),),
    ),
    Table(
        "C. Clips that motions are learned from: sentences and acts of held-out motions alone",
        {
            "0 clips": REGIONS.name,
            "20 unfiltered": UNFILTERED.name,
            "3 filtered": FEW.name,
            "up to 20 filtered": BOTH.name,
        },
        (HELD_OUT_CLIP, HELD_OUT_VICLIP, HELD_OUT_MOTION),
        (
            (BOTH.name, REGIONS.name),
            (BOTH.name, FEW.name),
            (BOTH.name, UNFILTERED.name),
            (FEW.name, UNFILTERED.name),
            (UNFILTERED.name, REGIONS.name),
        ),
    ),
)


@dataclass(frozen=True)
class Claim:
    """One cell is better than another in one figure."""

    better: str
    worse: str
    column: str


def _pairs(columns: Sequence[str], *cells: tuple[Cell, Cell]) -> tuple[Claim, ...]:
    return tuple(
        Claim(better.name, worse.name, column) for column in columns for better, worse in cells
    )


ORDERS = {
    "Regions (SR3AI) raise transition and binding": _pairs(
        (TRANSITION, BINDING), (REGIONS, NEITHER), (BOTH, MOTIONS)
    ),
    "Motion priors (retrieval) raise text alignment on held-out motions": _pairs(
        (HELD_OUT_CLIP, HELD_OUT_VICLIP), (MOTIONS, NEITHER), (BOTH, REGIONS)
    ),
    "Both together are best": _pairs(
        (FINE_CLIP, FINE_VICLIP, TEXT_CLIP, TEXT_VICLIP, TRANSITION, BINDING),
        *((BOTH, cell) for cell in (NEITHER, REGIONS, MOTIONS)),
    ),
    "More and filtered clips beat fewer and unfiltered ones": _pairs(
        (HELD_OUT_CLIP, HELD_OUT_VICLIP, HELD_OUT_MOTION),
        *((BOTH, FEW), (BOTH, UNFILTERED), (FEW, UNFILTERED), (UNFILTERED, REGIONS)),
    ),
    "Subject priors raise character consistency": _pairs(
        (CHARACTER_CLIP, CHARACTER_DINO, LEARNED_CHARACTER), (BOTH, NO_SUBJECTS)
    ),
}
"""What the paper finds, in our words, and every comparison that says so."""
COMES_OUT, REVERSED, OPEN = "comes out", "the other way round", "not decided"
UNMEASURED = "not measured"
VERDICTS = (COMES_OUT, REVERSED, OPEN, UNMEASURED)


def rows_of(
    figures: StoryFigures, plan: StoryPlan, known: Collection[str], learned: Collection[str]
) -> dict[Place, Scores]:
    """The figures of a film, scene by scene, with those of what had to be learned.

    Args:
        known: ids of motions that the backbone does without a prior.
        learned: ids of characters that have reference images.
    """
    assert figures.seed is not None, "every film here has a seed"
    held_out = {name: words for name, words in plan.motions.items() if name not in known}
    return {
        (figures.story, figures.seed, scene.number): {
            **scene.scores,
            **_of_motions(scene, held_out),
            LEARNED_CHARACTER: _mean(
                [
                    scores.get(BOX_CHARACTER)
                    for name, scores in scene.characters.items()
                    if name in learned
                ]
            ),
        }
        for scene in figures.scenes
    }


def _of_motions(scene: SceneFigures, held_out: Mapping[str, str]) -> Scores:
    told = [
        scores
        for sentence, scores in scene.parts
        if any(names(sentence, motion) for motion in held_out.values())
    ]
    done = [act.right_motion for act in scene.acts if act.motion_id in held_out]
    return {
        HELD_OUT_CLIP: _mean([scores[FINE_CLIP] for scores in told]),
        HELD_OUT_VICLIP: _mean([scores[FINE_VICLIP] for scores in told]),
        HELD_OUT_MOTION: _mean([None if right is None else float(right) for right in done]),
    }


def mean_in(rows: Rows, column: str) -> Mean | None:
    """Over scenes; scenes of one story are drawn together, whatever their seeds."""
    return _mean_over({place: scores.get(column) for place, scores in rows.items()})


def difference(better: Rows, worse: Rows, column: str) -> Mean | None:
    """Of the same scenes, over those that both have: same story, seed and place in the film."""
    return _mean_over(
        {
            place: _less(better[place].get(column), worse[place].get(column))
            for place in better.keys() & worse.keys()
        }
    )


def verdict(found: Mean | None) -> str:
    """What a difference says of an order."""
    if found is None:
        return UNMEASURED
    if found.low is not None and found.low > 0:
        return COMES_OUT
    return REVERSED if found.high is not None and found.high < 0 else OPEN


def judged(cells: Mapping[str, Rows], order: str) -> list[tuple[Claim, Mean | None, str]]:
    """Every comparison of an order: its difference, and what that says."""
    found = [
        (one, difference(cells.get(one.better, {}), cells.get(one.worse, {}), one.column))
        for one in ORDERS[order]
    ]
    return [(claim, mean, verdict(mean)) for claim, mean in found]


def sentences(cells: Mapping[str, Rows]) -> list[str]:
    """Which orders come out, in words."""
    lines = []
    for order in ORDERS:
        found = judged(cells, order)
        counts = Counter(told for _, _, told in found)
        told = ", ".join(f"{counts[word]} {word}" for word in VERDICTS if counts[word])
        lines += ["", f"{order}: {told}."]
        lines += [
            f"- {TITLES[one.column]}: {one.better} − {one.worse}: {signed(mean)}: {told}"
            for one, mean, told in found
        ]
    return lines[1:]


def tables(cells: Mapping[str, Rows]) -> list[str]:
    """All tables, as lines of Markdown."""
    lines = []
    for table in TABLES:
        head = ["", *(TITLES[column] for column in table.columns)]
        names_of = {cell: name for name, cell in table.rows.items()}
        body = [
            [name, *(spread(mean_in(cells.get(cell, {}), column)) for column in table.columns)]
            for name, cell in table.rows.items()
        ]
        body += [
            [
                f"{names_of[better]} − {names_of[worse]}",
                *(
                    signed(difference(cells.get(better, {}), cells.get(worse, {}), column))
                    for column in table.columns
                ),
            ]
            for better, worse in table.differences
        ]
        lines += [f"{table.title}.", "", *_markdown([head, *body]), ""]
    return lines


def as_data(cells: Mapping[str, Rows]) -> dict[str, object]:
    """Every figure of every scene, and the orders, for programs."""
    return {
        "cells": {
            cell.name: [
                {"story": story, "seed": seed, "scene": number, "scores": scores}
                for (story, seed, number), scores in sorted(cells.get(cell.name, {}).items())
            ]
            for cell in CELLS
        },
        "orders": {
            order: [
                {**vars(one), "difference": mean and vars(mean), "verdict": told}
                for one, mean, told in judged(cells, order)
            ]
            for order in ORDERS
        },
    }


def spread(mean: Mean | None) -> str:
    """A mean with its interval and how many scenes it is over, times 100."""
    if mean is None:
        return NOTHING
    if mean.low is None:
        return f"{figure(mean.mean)} (1)"
    return f"{figure(mean.mean)} [{figure(mean.low)}, {figure(mean.high)}] ({mean.num_scenes})"


def signed(mean: Mean | None) -> str:
    """A difference with its interval, times 100."""
    if mean is None:
        return NOTHING
    ends = "" if mean.low is None else f" [{100 * mean.low:+.1f}, {100 * (mean.high or 0):+.1f}]"
    return f"{100 * mean.mean:+.1f}{ends}"


def _mean_over(figures: Mapping[Place, float | None]) -> Mean | None:
    stories: dict[str, list[float]] = {}
    for (story, *_), value in sorted(figures.items()):
        if value is not None:
            stories.setdefault(story, []).append(value)
    return mean_of(list(stories.values()))


def _less(better: float | None, worse: float | None) -> float | None:
    return None if better is None or worse is None else better - worse


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]]
