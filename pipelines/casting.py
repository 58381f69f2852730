"""Who and what a text is about, where nobody was named to the planner.

The paper (arXiv 2411.16657) is given its characters. A prompt of a benchmark names its own, people,
animals and things alike, so a language model is asked for them first. Whoever it names must stand
in the text, word for word.
"""

from pipelines.language import Engine
from pipelines.plan import Character
from pipelines.plan_words import Fault, names
from pipelines.planner import MISFITS, Asking, PlannerOptions, unreadable
from pipelines.prompts import Message, Schema, read_json

_TOKENS = 400
_RULES = """\
You read a short description of a video. Answer with one JSON object: {"cast": [...]}, everybody and
everything in it that does something or is shown, the most important first; never the place itself.
Each is {"name", "phrase"}: a name in one or two words that stand in the description next to each
other, and a phrase that says how it looks, in two to six words.
Example, for "A red kite rises above a girl who runs along the beach":
{"cast": [{"name": "kite", "phrase": "red kite"}, {"name": "girl", "phrase": "running girl"}]}"""


def cast_of(engine: Engine, topic: str, *, options: PlannerOptions) -> tuple[Character, ...]:
    """The characters of a topic, at most as many as one scene may show, without images.

    Raises `PlanError` when the answers break the rules, repairs included, and lets `EngineError`
    pass.
    """
    messages = [Message(role="system", content=_RULES), Message(role="user", content=topic)]

    def judge(answer: str) -> tuple[tuple[Character, ...] | None, list[Fault]]:
        return judge_cast(answer, topic)

    ask = Asking(engine, options, options.seed, _TOKENS, 0.0)
    return ask("the cast", messages, cast_schema(options.max_cast), judge)


def cast_schema(max_cast: int) -> Schema:
    """JSON schema of the answer."""
    words = {"type": "string", "minLength": 1, "maxLength": 60}
    one = {
        "type": "object",
        "properties": {"name": words, "phrase": words},
        "required": ["name", "phrase"],
        "additionalProperties": False,
    }
    cast = {"type": "array", "items": one, "minItems": 1, "maxItems": max_cast}
    return {
        "type": "object",
        "properties": {"cast": cast},
        "required": ["cast"],
        "additionalProperties": False,
    }


def judge_cast(answer: str, topic: str) -> tuple[tuple[Character, ...] | None, list[Fault]]:
    """What an answer says (None where it cannot be read), and what is wrong with it."""
    try:
        cast = tuple(
            Character(name=one["name"], phrase=one["phrase"]) for one in read_json(answer)["cast"]
        )
    except MISFITS as error:
        return None, [unreadable(error)]
    faults = [
        Fault(7, "cast", f"{one.name} does not stand in the description; use its words")
        for one in cast
        if not names(topic, one.name)
    ]
    ids = [one.id for one in cast]
    if len(set(ids)) < len(ids):
        faults.append(Fault(7, "cast", "two have the same name; name each once"))
    return cast, faults
