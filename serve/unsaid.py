"""Who is in a story where nobody was named, and what may be wished: alike at the command line and
at the server's doors."""

from collections.abc import Collection, Sequence

from pipelines.plan import slug


def unasked(topic: str, cast: Collection[str], usual: Sequence[str], num: int) -> list[str]:
    """Those of the cast that the topic names, then the usual ones: ``num``, or all that are named.

    Ids are given and returned.
    """
    words = slug(topic).split("-") if any(map(str.isalnum, topic)) else []
    named = [identity for identity in cast if identity in words]
    return list(dict.fromkeys([*named, *usual]))[: max(num, len(named))]


def plain(wishes: Sequence[str]) -> tuple[str, ...]:
    """Wishes with single spaces."""
    return tuple(" ".join(wish.split()) for wish in wishes)


def wish_fault(wish: str, known: Sequence[str]) -> str | None:
    """Why a motion cannot be wished of a planner that knows these, or any if it names none."""
    if any(map(str.isalnum, wish)) and (not known or wish in known):
        return None
    said = f"one of {', '.join(known)}" if known else "words"
    return f"{wish!r} cannot be wished; say {said}"
