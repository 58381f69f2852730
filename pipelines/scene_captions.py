"""Words of a scene's captions: a subject's token put in, several captions made one."""

import re
from collections.abc import Sequence

from pipelines.regions import Condition


def with_token(caption: str, token: str, phrase: str) -> str:
    """``a pirate is walking`` becomes ``a [v1] pirate is walking``.

    The token goes before the first whole-word occurrence of the phrase; where the caption does not
    use the phrase, the phrase goes in front with it.
    """
    if token in caption.split():
        return caption
    found = re.search(rf"\b{re.escape(phrase)}\b", caption, re.IGNORECASE)
    if found is None:
        return f"a {token} {phrase}, {caption}"
    start = found.start()
    before = re.sub(r"\b([Aa])n $", r"\1 ", caption[:start])
    return f"{before}{token} {caption[start:]}"


def merged_caption(conditions: Sequence[Condition]) -> str:
    """A scene in one sentence: ``a witch is waving then sitting and a cat is walking in the park``.

    What the captions of one entity share at both ends is said once, and so is the ending (the
    place) that all entities share.
    """
    of_entity: dict[str | None, list[list[str]]] = {}
    for condition in conditions:
        words = condition.caption.rstrip(". ").split()
        captions = of_entity.setdefault(condition.entity_id, [])
        if words not in captions:
            captions.append(words)
    sentences = [_join(captions, "then") for captions in of_entity.values()]
    return " ".join(_join(sentences, "and", from_start=False))


def _join(captions: Sequence[list[str]], word: str, *, from_start: bool = True) -> list[str]:
    """Captions with a word between, their common beginning and ending once."""
    head = _common(captions) if from_start and len(captions) > 1 else 0
    rest = [caption[head:] for caption in captions]
    tail = _common([words[::-1] for words in rest]) if len(captions) > 1 else 0
    middles = [words[: len(words) - tail] for words in rest]
    joined = middles[0]
    for middle in middles[1:]:
        joined = [*joined, word, *middle]
    return captions[0][:head] + joined + rest[0][len(rest[0]) - tail :]


def _common(captions: Sequence[list[str]]) -> int:
    """How many first words all captions share; each keeps at least one of its own."""
    limit = min(map(len, captions)) - 1
    same = (len({words[i] for words in captions}) == 1 for i in range(limit))
    return next((i for i, equal in enumerate(same) if not equal), limit)
