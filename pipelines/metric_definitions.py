"""What each figure of a film is made of, as data that every report prints beside the figure."""

from dataclasses import dataclass

NUM_TEXT_FRAMES = 8
"""Frames of a clip that CLIP compares with a text."""
NUM_TRANSITION_FRAMES = 4
CHARACTER_CLIP, CHARACTER_DINO = "character_clip", "character_dino"
TEXT_CLIP, TEXT_VICLIP = "text_clip", "text_viclip"
FINE_CLIP, FINE_VICLIP = "fine_clip", "fine_viclip"
TRANSITION, MOTION = "transition_dino", "motion"
BOX_CHARACTER, BOX_MOTION, BINDING = "box_character", "box_motion", "binding"
SCALE = "Tables print every figure times 100; data hold it as it is."

Scores = dict[str, float | None]
"""A figure by its name; None where there was nothing to measure."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One figure: what it says, and everything that must be the same to compare two of them."""

    name: str
    title: str
    """Short, for the head of a column."""
    says: str
    model: str
    """Which weights: a name and its content."""
    frames: str
    pooling: str
    preprocessing: str


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """A model that measures: its name with its content, and how it takes its input."""

    model: str
    preprocessing: str
    num_frames: int = 0
    """How many frames it looks at together, if it does."""


def definitions(
    *, clip: Instrument, viclip: Instrument, dino: Instrument, judge: Instrument | None = None
) -> tuple[Definition, ...]:
    """All figures, in the order of a report's columns; without a judge, those it reads are left
    out."""
    video = f"{viclip.num_frames} uniform frames, taken together"
    return (
        *(_character(name, title, by) for name, title, by in _characters(clip, dino)),
        Definition(
            name=TEXT_CLIP,
            title="text CLIP",
            says="full-text alignment: cosine of frames with the narration of the scene",
            model=clip.model,
            frames=f"{NUM_TEXT_FRAMES} uniform frames of the scene",
            pooling="mean over frames",
            preprocessing=_with_text(clip),
        ),
        Definition(
            name=TEXT_VICLIP,
            title="text ViCLIP",
            says="full-text alignment: cosine of the clip with the narration of the scene",
            model=viclip.model,
            frames=f"the whole scene: {video}",
            pooling="one vector a clip",
            preprocessing=_with_text(viclip),
        ),
        _fine(FINE_CLIP, "fine CLIP", clip, f"{NUM_TEXT_FRAMES} uniform frames of the part"),
        _fine(FINE_VICLIP, "fine ViCLIP", viclip, f"the whole part: {video}"),
        Definition(
            name=TRANSITION,
            title="transition DINO",
            says="smoothness inside a scene: cosine of neighbouring frames; it rewards stillness",
            model=dino.model,
            frames=f"{NUM_TRANSITION_FRAMES} uniform frames of the scene",
            pooling="mean over the neighbouring pairs",
            preprocessing=dino.preprocessing,
        ),
        Definition(
            name=MOTION,
            title="motion",
            says="how much moves, to be read beside transition: absolute difference of luma "
            "(BT.601) between neighbouring frames, as a share of its range; flicker and camera "
            "count too, so compare films of one frame rate",
            model="none",
            frames="every frame of the scene",
            pooling="mean over pixels and pairs",
            preprocessing="pixels as decoded",
        ),
        *([] if judge is None else _judged(judge)),
    )


def _judged(judge: Instrument) -> tuple[Definition, ...]:
    """What is read inside planned boxes. An act is one entity doing one thing in neighbouring key
    frames."""
    says = {
        BOX_CHARACTER: "region adherence: whether the box of an act shows the character it was "
        "planned for; only characters that the judge knows",
        BOX_MOTION: "region adherence: whether the box of an act shows the motion it was planned "
        "for; only motions that the judge knows",
        BINDING: "1 if every act of the scene has the right character and the right motion in its "
        "own box, else 0; only scenes of which the judge knows all",
    }
    titles = {BOX_CHARACTER: "box character", BOX_MOTION: "box motion", BINDING: "binding"}
    return tuple(
        Definition(
            name=name,
            title=titles[name],
            says=words,
            model=judge.model,
            frames=f"{judge.num_frames} frames in the middle of the act, cut to the box around its "
            "boxes in all its key frames; no scene shorter than that",
            pooling="all acts of the scene" if name == BINDING else "share of the scene's acts",
            preprocessing=judge.preprocessing,
        )
        for name, words in says.items()
    )


def _characters(clip: Instrument, dino: Instrument) -> tuple[tuple[str, str, Instrument], ...]:
    return (
        (CHARACTER_CLIP, "character CLIP", clip),
        (CHARACTER_DINO, "character DINO", dino),
    )


def _character(name: str, title: str, by: Instrument) -> Definition:
    return Definition(
        name=name,
        title=title,
        says="character consistency: cosine of frames with the character's reference images; "
        "only characters that have some",
        model=by.model,
        frames="every frame whose key frame has a region of the character",
        pooling="mean over frames and references, then over the characters of the scene",
        preprocessing=by.preprocessing,
    )


def _fine(name: str, title: str, by: Instrument, frames: str) -> Definition:
    return Definition(
        name=name,
        title=title,
        says="fine-grained alignment: cosine of each sentence that tells a motion with its part "
        "of the clip. The sentences of one character share the clip equally, in order (two: cut "
        "at its middle)",
        model=by.model,
        frames=frames,
        pooling="mean over the sentences of the scene",
        preprocessing=_with_text(by),
    )


def _with_text(by: Instrument) -> str:
    return f"{by.preprocessing}; text cut at the model's length"
