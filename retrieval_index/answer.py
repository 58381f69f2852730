"""One motion answered from one snapshot: captions, attributes, scores, and the fate of each.

A search (arXiv 2411.16657, retrieval) without the models: whoever asks brings the sentence as
vectors. Candidates are addresses and numbers up to the last step, which reads the names of those
alone that are told about.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from retrieval_index.choose import attribute_fates, segment_fates
from retrieval_index.loaded import Loaded
from retrieval_index.options import SearchOptions
from retrieval_index.ranking import Question, rank_segments, rank_videos
from retrieval_index.records import SearchResult
from retrieval_index.telling import name_fates, tell_clips, tell_segments, tell_videos

_AT_ONCE = 4


def answers(
    loaded: Loaded, questions: Sequence[Question], options: SearchOptions
) -> tuple[SearchResult, ...]:
    """An answer a question, in their order, several worked on at the same time.

    That uses cores which one answer leaves idle, and changes no bit of an answer.

    Raises `retrieval_index.snapshot.SnapshotGoneError`.
    """
    loaded.prepare(options)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return tuple(threads.map(lambda question: answer(loaded, question, options), questions))


def answer(loaded: Loaded, question: Question, options: SearchOptions) -> SearchResult:
    """The clips of a motion, and why these.

    Raises `retrieval_index.snapshot.SnapshotGoneError`.
    """
    snapshot = loaded.snapshot
    found = rank_videos(loaded, question.motion, options)
    faults = attribute_fates(found.videos, options)
    fit = found[np.array([fault is None for fault in faults], dtype=bool)]
    segments = rank_segments(loaded, fit, question, options)
    fates = segment_fates(segments.scores.tolist(), segments.owners.tolist(), options)
    kept = np.flatnonzero([fate.kept for fate in fates])
    clips = tell_clips(snapshot, segments[kept], fit, question)
    if options.explain:
        decisions = tell_segments(snapshot, segments, fates)
        decisions += tell_videos(snapshot, found, faults, fit, segments)
    else:
        decisions = name_fates([clip.id for clip in clips], [fates[place] for place in kept])
    return SearchResult(
        motion=question.motion,
        kept=clips,
        decisions=tuple(decisions),
        table_version=snapshot.version,
        viclip_preprocessing=loaded.viclip_preprocessing,
    )
