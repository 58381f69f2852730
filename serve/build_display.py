"""A build of a library as it goes on: a bar a stage with its rate and time left, or plain lines."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from retrieval_index.records import BuildState
from serve.display import minutes

LINE_S = 10.0
"""Between plain lines."""


class BuildDisplay:
    """Shown what a build has done. A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said_s = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def __call__(self, state: BuildState) -> None:
        """Take note of how far it is."""
        if self._console.is_terminal:
            self._draw("rows", state.done, state.total, left(state))
            for name, stage in state.stages.items():
                note = f"{stage.rows_per_s:.1f}/s, {minutes(stage.left_s)} left"
                self._draw(f"  {name}", stage.rows, state.total, note)
        elif time.monotonic() - self._said_s > LINE_S or state.done == state.total:
            self._said_s = time.monotonic()
            stages = ", ".join(f"{n} {s.rows_per_s:.1f}/s" for n, s in state.stages.items())
            self._console.print(
                f"{state.done} of {state.total} rows ({stages}), {left(state)}", soft_wrap=True
            )

    def _draw(self, name: str, done: int, total: int, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, note=note)


def left(state: BuildState) -> str:
    """Time left, by the rows done so far."""
    if not state.done:
        return "time left unknown"
    seconds = state.seconds / state.done * (state.total - state.done)
    return f"{minutes(seconds)} left"
