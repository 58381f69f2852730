"""A build with bad luck, in a process that may be killed.

`python -m tests.retrieval_index.faults.builder MANIFEST URI SEED LIFE`: builds until that ends
well, or until it is dead.
"""

import random
import sys
from contextlib import closing
from pathlib import Path

from retrieval_index import tables
from retrieval_index.build import build_index, replay
from retrieval_index.inline import InlinePipeline
from retrieval_index.tables import Library
from tests.retrieval_index.faults.corpus import OPTIONS, light_stages
from tests.retrieval_index.faults.luck import Luck, bad

TRIES = 4


def build_badly(manifest: Path, uri: str, luck: random.Random, name: str) -> bool:
    """One build or replay under bad luck; whether it came to its end."""
    death, failure = luck.choice([(0.03, 0.1), (0.06, 0.0), (0.0, 0.25)])
    with bad(Luck(name, death, failure)):
        try:
            library = Library(uri)
            library.create()
            with closing(light_stages(uri)) as stages:
                pipeline = InlinePipeline(stages)
                if luck.random() < 0.25:
                    replay(uri, options=OPTIONS, pipeline=pipeline)
                recheck = luck.random() < 0.2
                build_index(manifest, uri, options=OPTIONS, pipeline=pipeline, recheck=recheck)
        except (OSError, RuntimeError, ValueError):
            return False
    return True


def main() -> None:
    manifest, uri, seed, life = sys.argv[1:]
    luck = random.Random(f"{seed}/{life}")
    tables.PAUSE_S = 0.01
    for attempt in range(TRIES):
        if build_badly(Path(manifest), uri, luck, f"{seed}/{life}/{attempt}"):
            return


if __name__ == "__main__":
    main()
