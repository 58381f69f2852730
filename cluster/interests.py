"""Which films wait for which steps: what one alone wanted may be stopped with it."""


class Interests:
    """Films by the steps they started. A step belongs to the film that wanted it first."""

    def __init__(self) -> None:
        self._films: dict[str, dict[str, None]] = {}
        self._steps: dict[str, dict[str, None]] = {}

    def add(self, film: str, step: str) -> None:
        """The film waits for the step, once or again."""
        self._films.setdefault(step, {})[film] = None
        self._steps.setdefault(film, {})[step] = None

    def films(self, step: str) -> tuple[str, ...]:
        """Who waits for a step, the first first."""
        return tuple(self._films.get(step, ()))

    def drop(self, film: str) -> tuple[str, ...]:
        """The film waits no more; the steps that nobody else waits for."""
        orphans = []
        for step in self._steps.pop(film, ()):
            waiting = self._films[step]
            del waiting[film]
            if not waiting:
                del self._films[step]
                orphans.append(step)
        return tuple(orphans)
