"""How the linter reads words: whole words, never substrings; and which motions travel.

Also the two records that linting of scenes and of stories share.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

TRAVELLING = frozenset(
    """walk run skip fly crawl skate ride swim jog march sail drive climb gallop hop stroll wander
    glide float drift chase race dash roll slide ski row paddle cycle travel approach leave cross
    hike stride sprint creep sneak tiptoe trot dive fall soar rush hurry follow flee escape enter
    return pace surf""".split()  # noqa: SIM905 - a word list reads better
)
"""Stems of motions that carry the body across the frame."""
_WORD = re.compile("L[LM]*")
"""In kinds of characters: a letter or digit, then such and the signs that belong to them."""


@dataclass(frozen=True)
class Fault:
    """One breach of one rule, in words that tell a model or a person what to change."""

    rule: int
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class LintOptions:
    """What the linter may not know by itself."""

    travelling: frozenset[str] = field(default=TRAVELLING)
    """Stems of travelling motions (``walk``)."""
    vocabulary: tuple[str, ...] = ()
    """Motions that a narration might name: naming one that the scene lacks is a fault."""

    @classmethod
    def of(cls, travelling: Iterable[str], vocabulary: tuple[str, ...]) -> Self:
        """With these stems beside those that are known to travel."""
        return cls(travelling=TRAVELLING | set(travelling), vocabulary=vocabulary)


def plain(text: str) -> str:
    """The text in lower case; a letter that can be written in two ways is written in one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@lru_cache(maxsize=1024)
def words(text: str) -> tuple[str, ...]:
    """Lower-case words, without punctuation: what two texts are compared by.

    Letters of any script are kept, vowel signs and other marks with them.
    """
    folded = plain(text)
    kinds = "".join(map(_kind, folded))
    return tuple(folded[found.start() : found.end()] for found in _WORD.finditer(kinds))


def _kind(character: str) -> str:
    if character.isalnum():
        return "L"
    is_mark = unicodedata.category(character) in {"Mn", "Mc"}
    is_seen = not unicodedata.name(character, "").startswith("VARIATION SELECTOR")
    return "M" if is_mark and is_seen else " "


def names(text: str, phrase: str) -> bool:
    """Whether the words of ``phrase`` stand in ``text`` as whole words, in order and adjacent.

    ``names("a category of cats", "cat")`` is false.
    """
    wanted, given = words(phrase), words(text)
    return bool(wanted) and any(
        given[i : i + len(wanted)] == wanted for i in range(len(given) - len(wanted) + 1)
    )


def travels(motion: str, options: LintOptions) -> bool:
    """Whether a motion carries the body across the frame (``running``: yes, ``waving``: no)."""
    return any(stem in options.travelling for word in words(motion) for stem in _stems(word))


def _stems(word: str) -> Iterator[str]:
    """Readings of a participle: ``skating`` is skat and skate, ``running`` runn and run."""
    yield word
    if word.endswith("ing"):
        stem = word.removesuffix("ing")
        yield stem
        yield stem + "e"
        if len(stem) > 2 and stem[-1] == stem[-2]:
            yield stem[:-1]
