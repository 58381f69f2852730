"""The planner's exam: how often it obeys the linter at the first call, on topics it never met.

`python -m miniature.planner_exam FOLDER [--topics N]` asks through the very engine and planner
that films are made with, without repairs.
"""

import argparse
import json
import logging
import random
import time
from pathlib import Path

from miniature.cast import MOTIONS, PLACES
from miniature.stories import MAX_CAST, Request, exam_requests
from pipelines.language import Engine, TransformersEngine
from pipelines.plan import Outline
from pipelines.planner import PlanError, PlannerOptions, judge_scene, judge_story, plan_outlines
from pipelines.prompts import scene_messages, scene_schema, story_messages, story_schema

log = logging.getLogger("miniature.planner_exam")


def exam_options(request: Request) -> PlannerOptions:
    """The planner's options for the puppet world."""
    return PlannerOptions(
        style="brief",
        places=PLACES,
        motions=MOTIONS,
        wishes=request.wishes,
        things=False,
        max_cast=MAX_CAST,
        story_tokens=1000,
        scene_tokens=1200,
    )


def evaluate(
    folder: Path, num_topics: int = 200, *, seed: int = 0, scenes_each: int = 1
) -> dict[str, float]:
    """Shares of first answers that obey every rule, over ``num_topics`` stories.

    Of each story the first ``scenes_each`` scenes are laid out; a story that fails at first is
    repaired before that. ``scene_s`` is the mean time of a scene call.
    """
    engine = TransformersEngine(folder)
    stories = scenes = passed = 0
    seconds = 0.0
    for i, request in enumerate(exam_requests(random.Random(f"exam {seed}"), num_topics)):
        outlines, good = _ask_story(engine, request)
        stories += good
        for outline in outlines[:scenes_each]:
            start = time.monotonic()
            passed += _ask_scene(engine, outline, request)
            seconds += time.monotonic() - start
            scenes += 1
        log.info("%d: stories %d, scenes %d of %d", i + 1, stories, passed, scenes)
    return {
        "stories_passed": stories / num_topics,
        "scenes_passed": passed / max(1, scenes),
        "num_scenes": float(scenes),
        "scene_s": seconds / max(1, scenes),
    }


def _ask_story(engine: Engine, request: Request) -> tuple[list[Outline], bool]:
    options, story = exam_options(request), request.story
    answer = engine.complete(
        story_messages(story, style="brief", wishes=request.wishes),
        story_schema(story, places=PLACES, motions=MOTIONS),
        max_tokens=options.story_tokens,
        seed=options.seed,
        temperature=options.story_temperature,
    )
    outlines, faults = judge_story(answer, story, options)
    if outlines is not None and not faults:
        return outlines, True
    log.info("%s: %s", story.topic, "; ".join(map(str, faults)))
    try:
        return plan_outlines(engine, story, options=options), False
    except PlanError:
        return [], False


def _ask_scene(engine: Engine, outline: Outline, request: Request) -> bool:
    options, cast = exam_options(request), request.story.characters
    answer = engine.complete(
        scene_messages(outline, cast, style="brief"),
        scene_schema(outline, style="brief", things=False),
        max_tokens=options.scene_tokens,
        seed=options.seed,
    )
    _, faults = judge_scene(answer, outline, cast, options)
    if faults:
        log.info("%s: %s", outline.narration, "; ".join(map(str, faults)))
    return not faults


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m miniature.planner_exam", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--topics", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes-each", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    figures = evaluate(args.folder, args.topics, seed=args.seed, scenes_each=args.scenes_each)
    log.info("%s", json.dumps(figures, sort_keys=True))


if __name__ == "__main__":
    main()
