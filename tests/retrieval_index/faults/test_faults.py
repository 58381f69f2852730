"""Whatever dies in a build, and whatever write fails: every row is there in the end, once.

A schedule that fails is played again by `python -m tests.retrieval_index.faults.run SEED`.
"""

from pathlib import Path

import pytest

from tests.retrieval_index.faults.run import Reference, play

SHORT = range(1, 4)
SOAK = range(100, 205)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(tmp_path_factory.mktemp("faults"))


def check(seed: int, reference: Reference, folder: Path) -> None:
    told = play(seed, reference, folder)
    assert not told["faults"], f"python -m tests.retrieval_index.faults.run {seed}: {told}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SHORT)
def test_nothing_is_lost_or_doubled(seed: int, reference: Reference, tmp_path: Path) -> None:
    check(seed, reference, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK)
def test_however_often(seed: int, reference: Reference, tmp_path: Path) -> None:
    check(seed, reference, tmp_path)
