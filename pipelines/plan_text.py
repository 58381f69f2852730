"""The text form of a scene plan, as language models write it (arXiv 2411.16657, scene planning).

    Background: a forest at night
    Frame_1: [["witch", "walking", "a witch is walking in the forest"], [0.0, 0.1, 0.6, 1.0]], ...

up to ``Frame_6``. Models write it with faults. A fault that has one reading is repaired, and the
repair is reported; anything else is refused with its line and column. Nothing is evaluated.
Whether the plan is good is the linter's business.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.plan import NUM_KEY_FRAMES, STILL, Box, KeyFrame, Layout, Region, slug

MAX_CHARACTERS = 100_000
MAX_TEXT = 2000
SLACK = 0.5
"""How far beyond the frame an edge may lie and still mean the frame's edge."""

_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_ANY_QUOTE = "\"'“”‘’"
_UNESCAPED = r"(?<!\\)(?:\\\\)*"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?%?"
_BOX = re.compile(
    rf"[\[(]\s*(?P<full>{_NUMBER}(?:[\s,;]+{_NUMBER})*)\s*(?:[\])]|(?=[\[\n]|$))"
    rf"|(?<=[\]\"'”’])\s*,\s*(?P<bare>{_NUMBER}(?:\s*,\s*{_NUMBER}){{3}})\s*[\])]"
)
_FRAME_NAME = r"(?:key[ _-]?)?frame[ _-]*"
_FRAME = re.compile(
    rf"(?<![^\W_])[*#\"']{{0,4}}{_FRAME_NAME}(?P<number>\d{{1,3}})[*\"']*\s*:[*]*"
    rf"(?:\s*(?=[\[(\"'“]|$)|(?=\s*?\n[\s*#•-]*(?:{_FRAME_NAME}\d|background)))",
    re.IGNORECASE,
)
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_BACKGROUND = re.compile(
    r"(?<![^\W_])[*#\"']{0,4}background(?:[ _]\w+)?[*\"']*\s*:[*]*", re.IGNORECASE
)
_DECORATION = "`*#•- \n\t\r"
_STILL_WORDS = frozenset({"", STILL, "null", "still", "static", "n/a", "no motion"})


class PlanSyntaxError(ValueError):
    """A plan text that cannot be read in one way only; ``line`` and ``column`` count from 1."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line, self.column = line, column


@dataclass(frozen=True)
class Repair:
    """A fault of the text that had one reading, and was read so."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.message}"


def parse_plan(text: str) -> tuple[Layout, list[Repair]]:
    """Read a plan text. Raises `PlanSyntaxError` where it has no reading, or more than one."""
    reader = _Reader(text)
    layout = reader.layout()
    return layout, sorted(reader.repairs, key=lambda repair: (repair.line, repair.column))


def write_plan(layout: Layout) -> str:
    """The text form of a layout; `parse_plan` reads it back without repairs.

    Raises `ValueError` for texts that it would not read as they are: those that hold a box, a
    heading or a line break.
    """
    lines = [f"Background: {_quote(layout.background)}"]
    for number, frame in enumerate(layout.key_frames, start=1):
        regions = (
            f"[[{_quote(r.entity)}, {_quote(r.motion)}, {_quote(r.caption)}], "
            f"[{', '.join(map(repr, r.box.edges))}]]"
            for r in frame.regions
        )
        lines.append(f"Frame_{number}: [{', '.join(regions)}]")
    text = "\n".join(lines) + "\n"
    if not _says(text, layout):
        raise ValueError(
            "this plan as text would not be read as it is: its words hold a box, a heading or a "
            "line break"
        )
    return text


def _says(text: str, layout: Layout) -> bool:
    try:
        return parse_plan(text) == (layout, [])
    except PlanSyntaxError:
        return False


def _quote(text: str) -> str:
    plain = " ".join(text.split())
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Reader:
    """One reading of one text; offsets are into ``self._text`` throughout."""

    def __init__(self, text: str) -> None:
        self.repairs: list[Repair] = []
        self._text = text
        if len(text) > MAX_CHARACTERS:
            raise self._fault(0, f"{len(text)} characters; a plan has at most {MAX_CHARACTERS}")
        if unseen := _UNSEEN.search(text):
            raise self._fault(unseen.start(), f"a control character, {unseen[0]!r}")
        self._text = re.sub(r"\\(.)", self._unfold, text)

    def _unfold(self, escape: re.Match[str]) -> str:
        """A literal \\n is a space (of two characters, so that places stay true)."""
        if escape[1] in "nrt":
            self._repair(escape.start(), f"{escape[0]} read as a line break")
            return "  "
        return escape[0]

    def _place(self, offset: int) -> tuple[int, int]:
        before = self._text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1

    def _fault(self, offset: int, message: str) -> PlanSyntaxError:
        return PlanSyntaxError(*self._place(offset), message)

    def _repair(self, offset: int, message: str) -> None:
        self.repairs.append(Repair(*self._place(offset), message))

    # -- headings ---------------------------------------------------------------------------

    def layout(self) -> Layout:
        frames = list(_FRAME.finditer(self._text))
        if not frames:
            raise self._fault(0, "no frame found; each starts like Frame_1: [[")
        background = self._background_heading(frames)
        if background.start() < frames[-1].start():
            frames = [frame for frame in frames if frame.start() > background.start()]
        chosen = self._six(frames)
        bodies = self._bodies(frames, background)
        key_frames = {frame.start(): self._key_frame(*bodies[frame.start()]) for frame in frames}
        return Layout(
            background=self._background(background, frames),
            key_frames=tuple(key_frames[frame.start()] for frame in chosen),
        )

    def _background_heading(self, frames: Sequence[re.Match[str]]) -> re.Match[str]:
        found = list(_BACKGROUND.finditer(self._text))
        if not found:
            raise self._fault(0, "no background found; it starts with Background:")
        heading = [h for h in found if h.start() < frames[-1].start()][-1:] or found[-1:]
        between = [f for f in frames if f.start() < heading[0].start()]
        if between and any(h.start() < between[-1].start() for h in found):
            raise self._fault(heading[0].start(), "a second background: two plans in one text?")
        return heading[0]

    def _background(self, heading: re.Match[str], frames: Sequence[re.Match[str]]) -> str:
        following = [frame.start() for frame in frames if frame.start() > heading.start()]
        end = following[0] if following else self._line_end(heading.end())
        said = re.sub(r"\n\s*[-•]\s*$", "", self._text[heading.end() : end])
        said = said.strip("[]*, \t\r\n")
        said = _unescape(_unquoted(said).strip())
        if not 0 < len(said) <= MAX_TEXT:
            what = "is too long" if said else "is empty"
            raise self._fault(heading.start(), f"the background {what}")
        return said

    def _line_end(self, offset: int) -> int:
        end = self._text.find("\n", offset)
        return len(self._text) if end < 0 else end

    def _six(self, frames: Sequence[re.Match[str]]) -> list[re.Match[str]]:
        """Which frame stands for each second; one may be missing, one may be too many."""
        numbers = [int(frame["number"]) for frame in frames]
        first = numbers[0]
        if first > 1:
            raise self._fault(frames[0].start(), f"frames start at {first}, not at 1")
        for number, following, frame in zip(numbers, numbers[1:], frames[1:], strict=False):
            if following <= number:
                raise self._fault(frame.start(), f"frame {following} comes after frame {number}")
        extra = [f for f, n in zip(frames, numbers, strict=True) if n >= first + NUM_KEY_FRAMES]
        kept = dict(zip(numbers, frames, strict=True))
        wanted = range(first, first + NUM_KEY_FRAMES)
        missing = [number for number in wanted if number not in kept]
        if len(extra) > 1 or len(missing) > 1 or (extra and missing):
            count = len(frames)
            raise self._fault(frames[-1].start(), f"{count} frames; a plan has {NUM_KEY_FRAMES}")
        for frame in extra:
            self._repair(frame.start(), f"frame {frame['number']} is beyond the sixth: left out")
        for number in missing:
            kept[number] = kept[number - 1]
            place = kept[number].start()
            self._repair(place, f"frame {number} is missing: frame {number - 1} is held")
        return [kept[number] for number in wanted]

    def _bodies(
        self, frames: Sequence[re.Match[str]], background: re.Match[str]
    ) -> dict[int, tuple[int, int, bool]]:
        """Start and end of what each frame says, and whether it is the last thing of all."""
        ends = sorted([*(frame.start() for frame in frames), background.start(), len(self._text)])
        bodies = {}
        for frame in frames:
            end = next(end for end in ends if end > frame.start())
            if not self._text[frame.end() : end].strip(_DECORATION):
                message = f"nothing behind frame {frame['number']}; [] is one without anybody"
                raise self._fault(frame.start(), message)
            bodies[frame.start()] = (frame.end(), end, end == len(self._text))
        return bodies

    # -- regions ----------------------------------------------------------------------------

    def _key_frame(self, start: int, end: int, is_last: bool) -> KeyFrame:
        regions: list[Region] = []
        structure, at = "", start
        for found in _BOX.finditer(self._text, start, end):
            label_start, label_end = self._trim(at, found.start())
            structure += self._text[at:label_start] + self._text[label_end : found.start()]
            structure += found[0]
            entity, motion, caption = self._label(label_start, label_end)
            box = self._box(found)
            still = motion.casefold() in _STILL_WORDS
            regions.append(Region.of(entity, STILL if still else motion, caption, box))
            at = found.end()
        structure += self._leftover(at, end, is_last)
        if any(structure.count(o) != structure.count(c) for o, c in ("[]", "()")):
            self._repair(start, "brackets do not balance: regions are told apart by their boxes")
        return KeyFrame(regions=tuple(regions))

    def _leftover(self, at: int, end: int, is_last: bool) -> str:
        """What follows the last box of a frame: brackets, or prose after the last frame."""
        start, stop = self._trim(at, end)
        rest = self._text[start:stop].strip(_DECORATION)
        if rest:
            prose = "\n" in self._text[at:start] and not re.search(r"[\[\]]", rest)
            if not (is_last and prose):
                raise self._fault(start, f"no box for {rest[:40]!r}; a box is [l, t, r, b]")
            self._repair(start, "text after the last frame: left out")
        return self._text[at:start] + self._text[stop:end]

    def _trim(self, start: int, end: int) -> tuple[int, int]:
        """Without the brackets, commas and spaces around a label."""
        around = "[](),; \t\r\n"
        while start < end and self._text[start] in around:
            start += 1
        limit = end
        while end > start and self._text[end - 1] in around:
            end -= 1
        said = self._text[start:end]
        own = said.count("(") - said.count(")") == 1 and self._text[end:limit].startswith(")")
        return start, end + own

    def _label(self, start: int, end: int) -> tuple[str, str, str]:
        """Entity, motion and caption of one region."""
        if start >= end:
            raise self._fault(start, "a box without [entity, motion, caption] before it")
        entity, at = self._field(start, end)
        motion, at = self._field(at, end)
        caption = self._caption(at, end)
        if not entity or not caption:
            what = "caption" if entity else "entity"
            raise self._fault(start, f"the {what} is empty")
        for what, said in (("entity", entity), ("motion", motion)):
            if said.casefold() not in _STILL_WORDS:
                self._check_words(start, what, said)
        return entity, motion, caption

    def _check_words(self, start: int, what: str, said: str) -> None:
        try:
            slug(said)
        except ValueError as error:
            raise self._fault(start, f"the {what} {said!r} has no letters") from error

    def _field(self, start: int, end: int) -> tuple[str, int]:
        """A text up to its comma, and where the next one starts."""
        opening = self._text[start : start + 1]
        if opening in _QUOTES:
            for closers in (_QUOTES[opening], _ANY_QUOTE):
                close = self._closing(start + 1, end, closers)
                if close is None:
                    continue
                if closers == _ANY_QUOTE:
                    self._repair(start, "quotes of two kinds around one text")
                return self._tidy(start + 1, close.start()), close.end()
        comma = re.compile(r",\s*").search(self._text, start, end)
        if comma is None:
            said = self._text[start:end]
            raise self._fault(start, f"{said[:40]!r}: a region has an entity, a motion, a caption")
        if opening in _QUOTES:
            self._repair(start, "a quote that is never closed")
        return _unquoted(self._tidy(start, comma.start())), comma.end()

    def _closing(self, start: int, end: int, closers: str) -> re.Match[str] | None:
        """The first of these quotes that a comma follows and no backslash escapes."""
        found = re.compile(rf"[{closers}]\s*,\s*").finditer(self._text, start, end)
        return next((c for c in found if not _is_escaped(self._text, c.start())), None)

    def _caption(self, start: int, end: int) -> str:
        """The rest of the label; quotes inside it are its own."""
        if start >= end:
            return ""
        opened, closed = self._text[start] in _QUOTES, self._text[end - 1] in _ANY_QUOTE
        closed = closed and end - start > 1 and not _is_escaped(self._text, end - 1)
        inner_start, inner_end = start + opened, end - closed
        inner = self._text[inner_start:inner_end]
        own = _UNESCAPED + _QUOTES.get(self._text[start], "(?!)")
        if re.search(rf"{own}\s*,\s*[{_ANY_QUOTE}]", inner):
            raise self._fault(start, "more than three texts in one region")
        if opened != closed:
            self._repair(start, "a quote that is never closed")
        if re.search(own, inner):
            self._repair(start, "quotes inside a caption: kept as part of it")
        return self._tidy(inner_start, inner_end)

    def _tidy(self, start: int, end: int) -> str:
        said = self._text[start:end]
        if "\n" in said.strip():
            self._repair(start, "a line break inside a text: read as a space")
        if len(said) > MAX_TEXT:
            raise self._fault(start, f"a text of {len(said)} characters; at most {MAX_TEXT}")
        return _unescape(" ".join(said.split()))

    # -- boxes ------------------------------------------------------------------------------

    def _box(self, found: re.Match[str]) -> Box:
        place = found.start("full") if found["full"] else found.start("bare")
        numbers = re.findall(_NUMBER, found["full"] or found["bare"])
        if len(numbers) != 4:
            raise self._fault(place, f"{len(numbers)} numbers; a box is [left, top, right, bottom]")
        edges = [self._edge(number, place) for number in numbers]
        left, top, right, bottom = edges
        if left >= right or top >= bottom:
            raise self._fault(
                place,
                f"box {edges} is inverted or empty; write [left, top, right, bottom] "
                "with left < right and top < bottom",
            )
        return Box(left=left, top=top, right=right, bottom=bottom)

    def _edge(self, number: str, place: int) -> float:
        value = float(number.rstrip("%")) / (100 if number.endswith("%") else 1)
        if not -SLACK <= value <= 1 + SLACK:
            raise self._fault(place, f"{number} is far outside the frame; edges are 0 to 1")
        if number.endswith("%"):
            self._repair(place, f"{number} read as {value}")
        if not 0 <= value <= 1:
            self._repair(place, f"{number} is outside the frame: moved to its edge")
        return min(1.0, max(0.0, value))


def _is_escaped(text: str, offset: int) -> bool:
    """Whether an odd number of backslashes stands before this place."""
    before = text[:offset]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _unquoted(text: str) -> str:
    """Without one pair of quotes around it, or a lone one."""
    text = text[1:] if text[:1] in _QUOTES else text
    closed = text[-1:] and text[-1:] in _ANY_QUOTE and not _is_escaped(text, len(text) - 1)
    return text[:-1] if closed else text


def _unescape(text: str) -> str:
    return re.sub(r"\\([\"'\\])", r"\1", " ".join(text.split()))
