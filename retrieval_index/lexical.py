"""BM25 over captions, by two engines behind one seam.

`LanceText` asks LanceDB's full-text index and suits any size; `MemoryText` scores every caption
with rank_bm25 and suits a small corpus. Both split captions alike and use Lucene's inverse
document frequency, which stays positive for a word in most captions ("person"), so in a finished
library their scores agree to single precision, in which LanceDB adds.

Captions of equal length with the same words of the query have equal scores, and there may be
thousands of them at the cut. An index returns whichever of them it came across first; here all of
them are fetched, and their ids decide, so the answer of a finished library depends on neither the
engine nor the order in which it was written.

While a build writes, that is true of `MemoryText` alone. LanceDB finds captions that its index does
not know yet, and scores them by the statistics of all, but indexed ones by the statistics of the
index: two captions alike may differ, and others be among the best, until the index is brought up to
date. The same version gives the same answer all the same.
"""

import math
import re
from typing import Protocol

import numpy as np
from rank_bm25 import BM25Okapi

from retrieval_index.snapshot import Hits, Rows, Snapshot

_WORD = re.compile(r"[^\W_]+")
_MAX_WORD_BYTES = 40
_K1, _B = 1.2, 0.75
_START, _GROWTH = 3, 4


class Lexical(Protocol):
    """One question: which captions match the words best?"""

    def match(self, query: str, limit: int) -> Hits:
        """Every caption that scores at least as well as the `limit`th.

        Equal captions have equal scores, so these may be more than `limit`: the caller decides
        which of the equals it takes.
        """
        ...


class LanceText:
    """BM25 by the library's own full-text index."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def match(self, query: str, limit: int) -> Hits:
        asked = _START * limit
        found = self._snapshot.match_captions(query, asked)
        # Where the last one found scores as well as the limit, some of its equals may be missing.
        while len(found.rows) == asked and found.scores.min() >= _kth_best(found, limit):
            asked *= _GROWTH
            found = self._snapshot.match_captions(query, asked)
        return _at_least_kth(found, limit)


class MemoryText:
    """BM25 by rank_bm25 over all captions, held in memory. The corpus must not be empty."""

    def __init__(self, rows: Rows, captions: list[str]) -> None:
        self._rows = rows
        self._bm25 = BM25Okapi([words(caption) for caption in captions], k1=_K1, b=_B)
        self._bm25.idf = _positive_idf(self._bm25.doc_freqs)

    @classmethod
    def of(cls, snapshot: Snapshot) -> "MemoryText":
        """Read all captions of a snapshot."""
        rows, table = snapshot.scan_videos(["caption"])
        return cls(rows, table["caption"].to_pylist())

    def match(self, query: str, limit: int) -> Hits:
        scores = self._bm25.get_scores(words(query))
        hits = np.flatnonzero(scores > 0)
        return _at_least_kth(Hits(self._rows[hits], scores[hits]), limit)


def words(text: str) -> list[str]:
    """Runs of letters and digits in lower case, as LanceDB's simple tokenizer takes them.

    Two differences are left: vowel signs of Indic scripts divide words here and not there, and the
    Greek final sigma is lowered to itself here and to the ordinary one there.
    """
    return [run.lower() for run in _WORD.findall(text) if len(run.encode()) < _MAX_WORD_BYTES]


def _positive_idf(documents: list[dict[str, int]]) -> dict[str, float]:
    counts: dict[str, int] = {}
    for document in documents:
        for word in document:
            counts[word] = counts.get(word, 0) + 1
    total = len(documents)
    return {
        word: math.log(1 + (total - count + 0.5) / (count + 0.5)) for word, count in counts.items()
    }


def _kth_best(hits: Hits, limit: int) -> float:
    return float(np.partition(hits.scores, -limit)[-limit])


def _at_least_kth(hits: Hits, limit: int) -> Hits:
    if len(hits.rows) <= limit:
        return hits
    good = hits.scores >= _kth_best(hits, limit)
    return Hits(hits.rows[good], hits.scores[good])
