"""Four subjects: a step of each, in one forward or one after another."""

from collections.abc import Callable
from itertools import count

from benchmarks.priors_full.bench import NUM_SUBJECTS, Bench, new_samples
from pipelines.backbone import Backbone
from pipelines.prior_options import SubjectPriorOptions
from pipelines.prior_steps import Lesson, subject_backward
from pipelines.prior_training import Trainee
from pipelines.prior_trunk import Trunk
from pipelines.prior_weights import new_pairs


def subjects(
    what: str, trunk: Callable[[Backbone], Trunk], *, together: bool
) -> tuple[str, Callable[[Bench], None]]:
    """Four subjects: a step of each, in one forward or one after another."""

    def run(bench: Bench) -> None:
        backbone = bench.backbone
        lessons = [_lesson(backbone, k) for k in range(NUM_SUBJECTS)]
        calls = trunk(backbone)
        groups = [lessons] if together else [[lesson] for lesson in lessons]
        backwards = [subject_backward(backbone, group, calls) for group in groups]
        steps = count()

        def step() -> None:
            number = next(steps)
            for group, backward in zip(groups, backwards, strict=True):
                backward(dict.fromkeys(range(len(group)), number))
                for lesson in group:
                    lesson.trainee.update(number)

        first = bench.seconds(step)
        bench.seconds(step)
        bench.say(
            f"subjects: {what}",
            step_of_all_ms=bench.median(step) * 1e3,
            first_step_s=first,
            peak_gib=bench.peak(),
        )

    return f"subjects: {what}", run


def _lesson(backbone: Backbone, k: int) -> Lesson:
    options = SubjectPriorOptions(num_frames=min(17, backbone.num_frames), flip=0.0)
    return Lesson(
        trainee=Trainee(
            prior=new_pairs(backbone.transformer, "subject", 32, "subject", k), options=options
        ),
        samples=new_samples(backbone, 3, options.num_frames),
        options=options,
        seed=k,
    )
