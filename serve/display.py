"""What people see while work goes on: a bar a step with its time left, or plain lines.

Everything goes to standard error; results alone go to standard output.
"""

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from cluster.crew import StepEvent
from cluster.estimate import Estimate

ENDED = {"done", "found", "failed", "cancelled"}


class Display:
    """Follows the steps of one command. A context manager."""

    def __init__(self, console: Console, estimate: Estimate) -> None:
        self._console, self._estimate = console, estimate
        self._started = time.monotonic()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._whole: TaskID | None = None
        self.events: dict[str, StepEvent] = {}
        """The last event of every step, by artifact, in the order of their first."""

    def __enter__(self) -> Self:
        self._bars.start()
        if (seconds := self._estimate.seconds()) > 0:
            self._whole = self._bars.add_task("in all", total=100, note=minutes(seconds))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def __call__(self, event: StepEvent) -> None:
        """Take note of an event."""
        name = str(event.artifact)
        before = self.events.get(name)
        self.events[name] = event
        if not self._console.is_terminal:
            self._say(event, before)
            return
        if event.state != "found":
            self._draw(name, event)
        self._draw_whole()

    @property
    def seconds(self) -> float:
        """Since the command began."""
        return time.monotonic() - self._started

    def _draw(self, name: str, event: StepEvent) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(event.label, total=None, note="")
        total, done = event.total or None, event.done
        if event.state == "done":
            total = done = max(event.total, event.done, 1)
        note = "" if event.state in {"running", "done"} else event.state
        self._bars.update(self._tasks[name], total=total, completed=done, note=note)

    def _draw_whole(self) -> None:
        if self._whole is None:
            return
        left = self._estimate.seconds(self._left())
        share = 100 * self.seconds / max(self.seconds + left, 1e-6)
        note = f"about {minutes(left)} left" if left >= 1 else ""
        self._bars.update(self._whole, completed=min(99.0, share), note=note)

    def _left(self) -> dict[str, float]:
        """Steps not done yet by kind; a running one counts for its part."""
        seen: Counter[str] = Counter()
        left: dict[str, float] = {}
        for event in self.events.values():
            kind = event.artifact.kind
            if event.state != "found":
                seen[kind] += 1
            if event.state not in ENDED:
                part = event.done / event.total if event.total else 0.0
                left[kind] = left.get(kind, 0.0) + 1 - min(1.0, part)
        for kind, count in self._estimate.counts.items():
            left[kind] = left.get(kind, 0.0) + max(0, count - seen[kind])
        return left

    def _say(self, event: StepEvent, before: StepEvent | None) -> None:
        if before is not None and before.state == event.state:
            return
        seconds = f" ({event.seconds:.0f} s)" if event.state == "done" else ""
        if event.state in {"running", *ENDED}:
            self._console.print(f"{event.label}: {event.state}{seconds}", highlight=False)


def table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    """A table whose columns after the first are right-aligned; a long word goes on in the next
    line, as a path that is cut off is of no use."""
    drawn = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        drawn.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def minutes(seconds: float) -> str:
    """A duration in words."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min"
