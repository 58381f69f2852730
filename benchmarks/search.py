"""Times of a search in a library of a million captions with random embeddings.

    python -m benchmarks.search                       # makes the library first: 7 GB, a minute
    python -m benchmarks.search --captions 100000 --folder /tmp/small

One JSON line per measurement: times over 240 different motions, after 80 others. Sentences are
random unit vectors, so what the text encoders take is not in these figures; it has a line of its
own. `warm` searches hold facts of all videos in memory (`retrieval_index.catalogue`).
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import psutil
from open_clip.tokenizer import SimpleTokenizer

from benchmarks.captions import queries
from benchmarks.synthetic_library import DIM, make_library
from pipelines.encoders import ClipEncoder
from pipelines.viclip import ViClip, ViClipConfig, ViClipEncoder
from retrieval_index.answer import answer, answers
from retrieval_index.catalogue import MemoryCatalogue
from retrieval_index.choose import attribute_fates
from retrieval_index.lexical import LanceText, MemoryText
from retrieval_index.loaded import Loaded
from retrieval_index.options import SearchOptions
from retrieval_index.ranking import Question, rank_videos
from retrieval_index.snapshot import Snapshot

NUM_WARMING = 80
NUM_IN_MEMORY = 20
OPTIONS = SearchOptions(min_score=0)
"""Random vectors score about 0: half of them pass, and 20 clips are kept."""


def tell(what: str, seconds: Sequence[float], **more: object) -> None:
    """Write one line about how long each of several calls took."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    times = {"p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98]}
    line = {"what": what, "num": len(seconds), **more}
    line |= {name: round(value * 1e3, 1) for name, value in times.items()}
    say(line | {"load": round(os.getloadavg()[0], 1)})


def say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def resident_mb() -> float:
    return psutil.Process().memory_info().rss / 2**20


def questions(motions: Sequence[str]) -> list[Question]:
    """Motions with random sentences."""
    draw = np.random.default_rng(2)
    pairs = draw.standard_normal((len(motions), 2, DIM), dtype=np.float32)
    pairs /= np.linalg.norm(pairs, axis=2, keepdims=True)
    return [Question(motion, *pair) for motion, pair in zip(motions, pairs, strict=True)]


def measure_lance(snapshot: Snapshot, asked: Sequence[Question]) -> None:
    """The product's search, step by step and whole."""
    start = time.perf_counter()
    held = MemoryCatalogue(snapshot)
    seconds = time.perf_counter() - start
    say({"what": "catalogue", "s": round(seconds, 2), "mb": round(held.num_bytes / 2**20)})
    cold, warm = Loaded(snapshot), Loaded(snapshot, warm=True)
    text = LanceText(snapshot)
    brief = OPTIONS.model_copy(update={"explain": False})

    def filtered(loaded: Loaded, question: Question) -> object:
        return attribute_fates(rank_videos(loaded, question.motion, OPTIONS).videos, OPTIONS)

    calls: dict[str, Callable[[Question], object]] = {
        "bm25": lambda question: text.match(f"person is {question.motion}", OPTIONS.max_candidates),
        "bm25 and attributes": partial(filtered, cold),
        "bm25 and attributes, warm": partial(filtered, warm),
        "whole search": lambda question: answer(cold, question, OPTIONS),
        "whole search, warm": lambda question: answer(warm, question, OPTIONS),
        "whole search, warm, not explained": lambda question: answer(warm, question, brief),
    }
    for what, call in calls.items():
        for question in asked[:NUM_WARMING]:
            call(question)
        tell(what, [timed(partial(call, question)) for question in asked[NUM_WARMING:]])
    start = time.perf_counter()
    answers(warm, asked[NUM_WARMING:], OPTIONS)
    each = (time.perf_counter() - start) / len(asked[NUM_WARMING:])
    say({"what": "all at once, warm", "ms_a_motion": round(each * 1e3, 1)})


def measure_encoders(asked: Sequence[Question]) -> None:
    """The text sides of CLIP ViT-B/32 and ViCLIP B/16 at full size, with random weights."""
    network, tokenizer = open_clip.create_model("ViT-B-32"), open_clip.get_tokenizer("ViT-B-32")
    clip = ClipEncoder(network, None, tokenizer, "clip", "cpu")
    config = ViClipConfig.base()
    words = SimpleTokenizer(context_length=config.text_length)
    viclip = ViClipEncoder(ViClip(config).eval(), words, "viclip", "cpu")

    def embed(question: Question) -> None:
        sentence = [f"the person is {question.motion}"]
        clip.embed_texts(sentence)
        viclip.embed_texts(sentence)

    embed(asked[0])
    tell("both sentences embedded", [timed(partial(embed, question)) for question in asked[:50]])


def measure_in_memory(snapshot: Snapshot, asked: Sequence[Question]) -> None:
    """rank_bm25 over the same captions."""
    before, start = resident_mb(), time.perf_counter()
    text = MemoryText.of(snapshot)
    seconds = time.perf_counter() - start
    say({"what": "rank_bm25, load", "s": round(seconds, 1), "mb": round(resident_mb() - before)})
    limit = OPTIONS.max_candidates
    match = [partial(text.match, f"person is {question.motion}", limit) for question in asked]
    tell("rank_bm25", [timed(one) for one in match[:NUM_IN_MEMORY]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/search-bench"))
    words = parser.parse_args()
    words.folder.mkdir(parents=True, exist_ok=True)
    snapshot = Snapshot.open(make_library(words.folder, words.captions))
    asked = questions(queries(320))
    measure_lance(snapshot, asked)
    measure_encoders(asked)
    measure_in_memory(snapshot, asked)


if __name__ == "__main__":
    main()
