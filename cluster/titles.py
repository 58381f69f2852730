"""Whose scene it is: puts the title of a film before the words on what is made for it alone."""

from collections.abc import Mapping
from dataclasses import replace

from cluster.crew import StepEvent, Watch
from cluster.steps import Step

_OF_ONE_FILM = ("scene", "film")
"""Kinds of steps. Plans, clips and priors are often made for several films."""


class Titles:
    """Tells a watcher what it is told, with titles. Of films that have none, nothing changes."""

    def __init__(self, titles: Mapping[str, str], watch: Watch) -> None:
        """``titles`` by name of the order."""
        self._titles, self._watch = titles, watch
        self._of: dict[str, str] = {}

    def begun(self, film: str, step: Step) -> None:
        """A film waits for a step. Of several that wait for the same scene, the first is named."""
        if step.kind in _OF_ONE_FILM and film in self._titles:
            self._of.setdefault(str(step.artifact), self._titles[film])

    def __call__(self, event: StepEvent) -> None:
        title = self._of.get(str(event.artifact))
        told = event if title is None else replace(event, label=f"{title}, {event.label}")
        self._watch(told)
