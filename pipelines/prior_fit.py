"""The training loop of priors, one or several side by side."""

from collections.abc import Callable, Mapping, Sequence

from pipelines.prior_checkpoint import Checkpoint
from pipelines.prior_training import Course, Fit
from pipelines.progress import Progress

Backward = Callable[[Mapping[int, int]], None]
"""Gradients of the courses that still learn: number of the course to number of its step."""


def fit(
    courses: Sequence[Course],
    backward: Backward,
    *,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> list[Fit]:
    """Train until every course is over; those that are still on learn side by side."""

    def report() -> None:
        done, total = zip(*(course.unit for course in courses), strict=True)
        progress(sum(done), sum(total))

    if checkpoint:
        checkpoint.load(courses)
    while steps := {k: c.state.step for k, c in enumerate(courses) if not c.is_over}:
        backward(steps)
        for k in steps:
            courses[k].advance(report)
        if checkpoint and any(courses[k].is_due for k in steps):
            checkpoint.save(courses)
        report()
    report()
    return [course.state for course in courses]
