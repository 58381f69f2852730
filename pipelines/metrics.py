"""The figures a film is judged by (arXiv 2411.16657, evaluation), as functions of embeddings.

Vectors are unit float32 (N, D), so that a cosine is a dot product; frames are uint8 RGB
(F, H, W, 3). What each figure is made of stands in
`pipelines.metric_definitions`.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.encoders import Vectors, uniform_indices
from pipelines.metric_definitions import NUM_TEXT_FRAMES, NUM_TRANSITION_FRAMES
from pipelines.plan import Layout
from pipelines.video import Frames

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601."""


def due_frames(layout: Layout, entity_id: str, num_frames: int) -> NDArray[np.int64]:
    """Indices of the frames in which an entity is due: those whose key frame has a region of it.

    Each key frame holds for an equal share of the clip.
    """
    shares = np.arange(num_frames) * len(layout.key_frames) // num_frames
    due = np.array([frame.region_of(entity_id) is not None for frame in layout.key_frames])
    return np.flatnonzero(due[shares])


def consistency(frames: Vectors, references: Vectors) -> float | None:
    """Mean cosine of every frame (F, D) with every reference image (R, D); None without any."""
    if not len(frames) or not len(references):
        return None
    return float((frames @ references.T).mean())


def text_alignment(frames: Vectors, text: Vectors) -> float:
    """Mean cosine of 8 uniform frames of a clip, out of all its frames (F, D), with a text (D,)."""
    chosen = frames[uniform_indices(len(frames), NUM_TEXT_FRAMES)]
    return float((chosen @ text).mean())


def transition(frames: Vectors) -> float:
    """Mean cosine of neighbours among 4 uniform frames of a clip, out of all its frames (F, D).

    It rewards stillness: 1 is a film in which nothing moves. Read it beside `motion_magnitude`.
    """
    chosen = frames[uniform_indices(len(frames), NUM_TRANSITION_FRAMES)]
    return float((chosen[:-1] * chosen[1:]).sum(axis=1).mean())


def motion_magnitude(frames: Frames) -> float:
    """How much changes from one frame to the next: 0 is a still, 1 is black to white everywhere.

    The mean absolute difference of luma between neighbouring frames, over all pixels, as a share
    of its range. It counts whatever changes, also flicker and the camera.
    """
    if len(frames) < 2:
        return 0.0
    luma = frames.astype(np.float32) @ _LUMA / 255
    return float(np.abs(np.diff(luma, axis=0)).mean())
