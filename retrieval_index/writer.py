"""The one writer of a build: what is new goes to the tables, and every row is counted once.

A row is indexed, dead, or known (there before, or twice in the manifest), so the totals of the
report agree with the manifest and with the tables.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from retrieval_index.findings import STAGES
from retrieval_index.options import IndexOptions
from retrieval_index.records import BuildState, IndexReport, StageState
from retrieval_index.schemas import Outcomes
from retrieval_index.tables import Library
from retrieval_index.transport import table_to_outcomes

COMMITS_TO_COMPACT = 256


class Writer:
    """Adds findings to a library, and keeps the count of one run."""

    def __init__(
        self,
        library: Library,
        options: IndexOptions,
        total: int,
        check: Callable[[], None],
        *,
        is_replay: bool = False,
    ) -> None:
        """`check` is called before every write, and raises where writing is not allowed."""
        self._library, self._options, self._total = library, options, total
        self._check, self._is_replay = check, is_replay
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self._attempts = {row["id"]: row["attempts"] for row in library.dead_letters()}
        self._seen: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._commits = 0

    @property
    def state(self) -> BuildState:
        """How far the run is."""
        done = sum(self._counts[name] for name in ("indexed", "dead", "known"))
        seconds = time.monotonic() - self._clock
        stages = {stage: self._stage(stage, self._total - done) for stage in STAGES}
        return BuildState(done=done, total=self._total, seconds=seconds, stages=stages)

    def _stage(self, stage: str, rows_left: int) -> StageState:
        busy_s, rows = self._seconds[stage], self._rows[stage]
        rate = rows / busy_s * self._options.workers.pool(stage).count if busy_s else 0.0
        left_s = rows_left / rate if rate else 0.0
        return StageState(rows=rows, busy_s=busy_s, rows_per_s=rate, left_s=left_s)

    def write(self, findings: pa.Table) -> None:
        """Write what a table of findings holds that is not there yet."""
        fresh = [self._is_fresh(id_) for id_ in findings["id"].to_pylist()]
        self._count(findings, fresh)
        self._check()
        outcomes = table_to_outcomes(findings.filter(pa.array(fresh, pa.bool_())))
        if self._is_replay:
            self._write_again(findings, outcomes)
        else:
            self._library.write(outcomes)
        self._commits += 1
        if self._commits % COMMITS_TO_COMPACT == 0:
            self._library.compact()

    def pass_over(self, num_rows: int) -> None:
        """Count rows that were there before."""
        self._counts["known"] += num_rows

    def _is_fresh(self, id_: str) -> bool:
        if not id_ or id_ in self._seen or (id_ in self._attempts and not self._is_replay):
            return False
        self._seen.add(id_)
        return True

    def _count(self, findings: pa.Table, fresh: Sequence[bool]) -> None:
        columns = ["num_rows", "seconds", "video", "dead_letter"]
        rows = findings.select(columns).to_pylist()
        for row, is_fresh in zip(rows, fresh, strict=True):
            for stage, seconds in row["seconds"].items():
                if seconds is not None:
                    self._seconds[stage] += seconds
                    self._rows[stage] += 1
            if is_fresh and row["video"]:
                self._counts["indexed"] += 1
                self._counts["segments"] += row["video"]["num_segments"]
            elif is_fresh and row["dead_letter"]:
                self._counts["dead"] += 1
                letter = row["dead_letter"]
                self._reasons[f"{letter['stage']}: {letter['reason']}"] += 1
            else:
                self._counts["known"] += row["num_rows"]

    def _write_again(self, findings: pa.Table, outcomes: Outcomes) -> None:
        """What came of dead letters: those that are videos now are raised after their videos."""
        letters = outcomes.dead_letters
        before = [self._attempts.get(id_, 0) for id_ in letters["id"].to_pylist()]
        tried = pa.array([count + 1 for count in before], pa.int32())
        letters = letters.set_column(letters.schema.get_field_index("attempts"), "attempts", tried)
        is_old = pa.array([count > 0 for count in before], pa.bool_())
        self._library.bury_again(letters.filter(is_old))
        new = letters.filter(pc.invert(is_old))
        self._library.write(replace(outcomes, dead_letters=new))
        alive = findings.filter(pc.is_null(findings["dead_letter"], nan_is_null=False))
        self._library.raise_dead([key for key in alive["key"].to_pylist() if key])

    def finish(self, manifest: str) -> IndexReport:
        """Bring the indexes up to date and record the run."""
        self._check()
        self._library.finish()
        state = self.state
        pools = self._options.workers
        shares = {name: s.busy_s / pools.pool(name).count for name, s in state.stages.items()}
        report = IndexReport(
            run_id=uuid.uuid4().hex,
            uri=self._library.uri,
            manifest=manifest,
            started=self._started,
            seconds=time.monotonic() - self._clock,
            rows_in=state.done,
            indexed=self._counts["indexed"],
            dead=self._counts["dead"],
            known=self._counts["known"],
            num_segments=self._counts["segments"],
            stage_seconds={stage: s.busy_s for stage, s in state.stages.items()},
            bottleneck=max(shares, key=lambda stage: shares[stage]) if any(shares.values()) else "",
            dead_reasons=dict(self._reasons.most_common()),
            total_videos=self._library.num_rows("videos"),
            total_segments=self._library.num_rows("segments"),
            total_dead=self._library.num_rows("dead_letters"),
        )
        self._library.record(report, self._options)
        return report
