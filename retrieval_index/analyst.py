"""The stages with models: people are followed and cut out, and what was cut is embedded
(arXiv 2411.16657, retrieval of motion clips)."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from pipelines.encoders import ClipEncoder, uniform_indices
from pipelines.tracking import Detector, Segment, Track, segments, track
from pipelines.viclip import ViClipEncoder
from pipelines.video import Frames
from retrieval_index.clips import crop_frames
from retrieval_index.findings import Row, Work
from retrieval_index.keys import model_id, segment_id
from retrieval_index.options import LibraryModels, SegmentRecipe
from retrieval_index.schemas import segments_schema


class Tracker:
    """Follows people through a video and cuts it around them."""

    def __init__(self, recipe: SegmentRecipe, models: LibraryModels, device: str) -> None:
        """Load the detector, or raise what its loader raises."""
        self._recipe = recipe
        self._detector = Detector.load(Path(models.detector), device)

    def __call__(self, work: Work) -> Work:
        """Of each segment, the frames that its embeddings see."""
        assert work.row is not None
        assert work.finding.video is not None
        (frames,), (start_s, _) = work.frames, work.row.span
        pieces = self._cut(frames)
        rows = tuple(piece.row(work.finding.id, start_s) for piece in pieces)
        video = {**work.finding.video, "num_segments": len(rows)}
        finding = replace(work.finding, video=video)
        if not rows:
            return Work(finding=finding)
        seen = tuple(self._seen(frames, piece) for piece in pieces)
        return Work(finding=finding, row=work.row, frames=seen, cuts=rows)

    def _seen(self, frames: Frames, piece: "_Piece") -> Frames:
        chosen = uniform_indices(piece.length, self._recipe.num_clip_frames) + piece.first
        return crop_frames(frames[chosen], piece.segment.crop)

    def _cut(self, frames: Frames) -> list["_Piece"]:
        recipe = self._recipe
        people = track(
            self._detector,
            frames,
            recipe.fps,
            min_confidence=recipe.min_confidence,
            max_gap_s=recipe.max_gap_s,
        )
        pieces = [
            _Piece(number, person, segment, round(segment.start_s * recipe.fps), recipe.fps, 0)
            for number, person in enumerate(people)
            for segment in segments(
                [person],
                recipe.fps,
                (frames.shape[1], frames.shape[2]),
                min_track_s=recipe.min_track_s,
                max_window_s=recipe.max_window_s,
                margin=recipe.margin,
                min_aspect=recipe.min_aspect,
            )
        ]
        return [replace(piece, num_people=piece.count(people)) for piece in pieces]


@dataclass(frozen=True)
class _Piece:
    """A segment, with the person it was cut around."""

    number: int
    """Of the person in the video, the largest first."""
    person: Track
    segment: Segment
    first: int
    """Index of the first frame in the video as decoded."""
    fps: float
    num_people: int

    @property
    def length(self) -> int:
        return round((self.segment.end_s - self.segment.start_s) * self.fps)

    def count(self, people: list[Track]) -> int:
        """Of all people, those who are in the video during the segment."""
        last = self.first + self.length
        return sum(
            person.start < last and person.start + len(person.boxes) > self.first
            for person in people
        )

    def row(self, video_id: str, start_s: float) -> Row:
        """The columns of ``segments`` that are known before embedding; the video as decoded
        starts at a second of its file."""
        begin = self.first - self.person.start
        return {
            "id": segment_id(video_id, self.segment.start_s, self.number),
            "video_id": video_id,
            "track": self.number,
            "start_s": start_s + self.segment.start_s,
            "end_s": start_s + self.segment.end_s,
            "crop": list(self.segment.crop.edges),
            "boxes": self.person.boxes[begin : begin + self.length].tolist(),
            "confidence": self.segment.confidence,
            "num_people": self.num_people,
        }


class Embedder:
    """Embeds segments with CLIP and ViCLIP."""

    def __init__(self, models: LibraryModels, device: str) -> None:
        """Load both encoders, or raise what their loaders raise."""
        self._clip = ClipEncoder.load(models.clip, device)
        self._viclip = ViClipEncoder.load(Path(models.viclip), device)
        self._made_by = {
            "clip_model": model_id("clip", models.clip),
            "viclip_model": model_id("viclip", models.viclip),
            "viclip_preprocessing": self._viclip.preprocessing,
        }
        self.schema = self._schema()

    def _schema(self) -> pa.Schema:
        """Columns of the segments that it makes."""
        texts = ["a person"]
        dims = [len(model.embed_texts(texts)[0]) for model in (self._clip, self._viclip)]
        return segments_schema(*dims)

    def __call__(self, work: Work) -> Work:
        """A vector of each kind a segment: the mean over its frames by CLIP, and ViCLIP's."""
        pictures = self._clip.embed_images([frame for seen in work.frames for frame in seen])
        means = pictures.reshape(len(work.frames), -1, pictures.shape[-1]).mean(axis=1)
        videos = self._viclip.embed_videos(list(work.frames))
        rows = [
            cut | self._made_by | {"clip": clip.tolist(), "viclip": viclip.tolist()}
            for cut, clip, viclip in zip(work.cuts, means, videos, strict=True)
        ]
        return Work(finding=replace(work.finding, segments=rows))
