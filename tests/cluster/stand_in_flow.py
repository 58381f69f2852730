"""Runs a film's durable flow with steps that take no time, and dies where it is told to.

`python -m tests.cluster.stand_in_flow FOLDER [LABEL WHEN]`: WHEN is ``before`` or ``after`` the
step with this label has published its result. Prints what it did, one line a step.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from cluster import durable
from cluster.artifacts import Artifact, LocalStore
from cluster.steps import Step
from tests.cluster.samples import sample_order
from tests.cluster.test_film import stand_in

STEP_S = 0.05


async def run_flow(folder: Path, label: str, when: str) -> None:
    store = LocalStore(folder / "artifacts")
    order = sample_order(plan=None)

    def die_if(step: Step, now: str) -> None:
        if (step.label, now) == (label, when):
            os.kill(os.getpid(), signal.SIGKILL)

    async def run(step: Step) -> Artifact:
        if not store.has(step.artifact):
            await asyncio.sleep(STEP_S)
            die_if(step, "before")
            stand_in(store, step)
            sys.stdout.write(f"{step.label}\n")
            sys.stdout.flush()
            die_if(step, "after")
        return step.artifact

    durable.set_aside(folder / "flows.sqlite", [order], store.has)
    durable.launch(durable.sqlite(folder / "flows.sqlite"), store, run)
    try:
        await durable.film(order)
    finally:
        durable.shut_down()


if __name__ == "__main__":
    asyncio.run(run_flow(Path(sys.argv[1]), *(sys.argv[2:] or ("", ""))))
