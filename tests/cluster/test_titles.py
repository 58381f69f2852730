"""Whose scene it is, in what watchers are told."""

from cluster.crew import StepEvent
from cluster.titles import Titles
from tests.cluster.samples import sample_order, sample_plan


def test_a_scene_and_a_film_are_told_with_their_title_and_what_may_be_shared_without():
    told = []
    titles = Titles({"one": "A day", "other": "Another"}, told.append)
    order, plan = sample_order(), sample_plan()
    steps = [
        order.scene(1, plan.scenes[0], []),
        order.cut(plan, [], []),
        *order.subject_priors(plan).values(),
    ]
    for film in ("one", "other"):
        for step in steps:
            titles.begun(film, step)
    untitled = order.scene(2, plan.scenes[1], [])
    titles.begun("untold", untitled)
    for step in (*steps, untitled):
        titles(StepEvent(artifact=step.artifact, label=step.label, state="running", done=1))
    assert [event.label for event in told] == [
        *("A day, scene 1", "A day, film", "prior of pirate", "scene 2")
    ]
    assert {event.done for event in told} == {1}
