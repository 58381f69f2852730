"""From detections to human-centred segments of a video (arXiv 2411.16657, retrieval of clips).

The paper says that clips are cut around people and no more; the rules here are ours: a person who
is seen for at least two seconds, short gaps bridged, makes one segment, cut into windows of at most
six seconds and a frame, cropped to the union of the boxes with a margin. The models are
`pipelines.detector`'s.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.detector import Detections, Detector, follow
from pipelines.plan import Box, resized
from pipelines.video import Frames, resize_frames

__all__ = ["Detections", "Detector", "Segment", "Track", "find_person", "link", "segments", "track"]


@dataclass(frozen=True)
class Track:
    """One person over consecutive frames."""

    start: int
    """Index of the first frame."""
    boxes: NDArray[np.float32]
    """(n, 4) left, top, right, bottom in 0-1; short gaps are filled linearly."""
    confidence: float
    """Mean over the frames where the person was detected."""

    @property
    def area(self) -> float:
        """Mean share of the frame that the person's box covers."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        return float(np.prod(sides, axis=1).mean())


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a video with one person in the middle of attention."""

    start_s: float
    end_s: float
    crop: Box
    confidence: float


def find_person(
    detector: Detector, image: Frames, *, long_side_px: int, min_confidence: float = 0.3
) -> Box | None:
    """Where the surest person of an image, uint8 (H, W, 3), is; None where nobody is seen.

    Larger images are shrunk first: to ``long_side_px``, the size that clips have, which the
    detector knows people in.
    """
    height, width = image.shape[:2]
    shrink = min(1.0, long_side_px / max(height, width))
    size_px = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    (found,) = detector.detect(resize_frames(image[None], size_px), confidence=min_confidence)
    for left, top, right, bottom in found.boxes.tolist():
        if left < right and top < bottom:  # not in what a thin image was padded with
            return Box(left=left, top=top, right=right, bottom=bottom)
    return None


def track(
    detector: Detector,
    frames: Frames,
    fps: float,
    *,
    min_confidence: float = 0.5,
    max_gap_s: float = 0.5,
) -> list[Track]:
    """The people of uint8 frames (F, H, W, 3), largest first."""
    return link(detector.detect(frames, confidence=min_confidence), fps, max_gap_s=max_gap_s)


def link(detections: Sequence[Detections], fps: float, *, max_gap_s: float = 0.5) -> list[Track]:
    """Tracks from the detections of consecutive frames, largest first."""
    max_gap = round(max_gap_s * fps)
    tracks = []
    for seen in follow(detections, max_gap):
        part = [seen[0]]
        for sighting in seen[1:]:
            if sighting[0] - part[-1][0] - 1 > max_gap:
                tracks.append(_track(part, detections))
                part = []
            part.append(sighting)
        tracks.append(_track(part, detections))
    return sorted(tracks, key=lambda one: (-one.area, one.start))


def _track(seen: Sequence[tuple[int, int]], detections: Sequence[Detections]) -> Track:
    frames = np.array([frame for frame, _ in seen])
    boxes = np.stack([detections[frame].boxes[index] for frame, index in seen])
    every = np.arange(frames[0], frames[-1] + 1)
    filled = np.stack([np.interp(every, frames, side) for side in boxes.T], axis=1)
    confidence = np.mean([detections[frame].confidence[index] for frame, index in seen])
    return Track(int(frames[0]), filled.astype(np.float32), float(confidence))


def segments(
    tracks: Sequence[Track],
    fps: float,
    size_px: tuple[int, int],
    *,
    min_track_s: float = 2.0,
    max_window_s: float = 6.0,
    margin: float = 0.2,
    min_aspect: float = 0.9,
) -> list[Segment]:
    """The segments of a video, largest person first.

    Args:
        tracks: of consecutive frames at `fps`.
        fps: frames a second.
        size_px: height and width of the frames, which turn shares into an aspect.
        min_track_s: shorter tracks make no segment.
        max_window_s: longer tracks are cut into equal windows whose first and last frames are at
            most so far apart; the last is shown too, so a window ends one frame later (49 frames
            for 6 s at 8 a second).
        margin: share of the union of boxes that the crop adds, half on each side.
        min_aspect: crops narrower than this (width / height) are widened; where the frame itself
            is too narrow for that, there is no segment.
    """
    found = []
    longest = math.floor(max_window_s * fps + 1e-6) + 1
    for one in tracks:
        if len(one.boxes) < min_track_s * fps:
            continue
        for window in np.array_split(
            np.arange(len(one.boxes)), math.ceil(len(one.boxes) / longest)
        ):
            crop = crop_around(one.boxes[window], size_px, margin=margin, min_aspect=min_aspect)
            if crop is not None:
                start = one.start + int(window[0])
                found.append(
                    Segment(
                        start_s=start / fps,
                        end_s=(start + len(window)) / fps,
                        crop=crop,
                        confidence=one.confidence,
                    )
                )
    return found


def crop_around(
    boxes: NDArray[np.float32],
    size_px: tuple[int, int],
    *,
    margin: float = 0.2,
    min_aspect: float = 0.9,
) -> Box | None:
    """The union of boxes (n, 4) with a margin, widened to the aspect; None where it cannot be."""
    left, top = (float(v) for v in boxes[:, :2].min(axis=0))
    right, bottom = (float(v) for v in boxes[:, 2:].max(axis=0))
    top, bottom = resized(top, bottom, (bottom - top) * (1 + margin))
    needed = min_aspect * (bottom - top) * size_px[0] / size_px[1]
    if needed > 1 + 1e-6:
        return None
    left, right = resized(left, right, min(1.0, max((right - left) * (1 + margin), needed)))
    return Box(left=left, top=top, right=right, bottom=bottom)
