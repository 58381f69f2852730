"""What a training recipe is told: where to write, how long, on what."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run of one model of the miniature."""

    out: Path
    """Folder of the finished model, in its official layout."""
    state: Path
    """Folder of resumable training state (weights, optimiser, step, random states)."""
    seed: int
    minutes: float
    """Stop (and save state) after this many minutes, finished or not."""
    device: str
    tiny: bool
    """A dry run on a CPU in seconds: a handful of steps, small batches, meaningless weights."""
    pause: bool = False
    """Leave the learning-rate schedule where `minutes` stopped it, for a later call to go on."""

    def done(self, first: int, step: int, steps: int, spent: float) -> float:
        """How far the schedule is (0-1): by steps, or by the clock where these end too late.

        ``first`` is the step this call began at, ``spent`` the share of its minutes that is used.
        """
        if self.pause:
            return step / steps
        before = first / steps
        return max(step / steps, before + (1 - before) * spent)
