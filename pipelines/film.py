"""Scenes become a film: their packets are joined, no frame is decoded or encoded again."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av

from pipelines.contact_sheet import contact_sheet

__all__ = ["contact_sheet", "stitch"]

MUXING = {"movflags": "+faststart", "fflags": "+bitexact"}


def stitch(scenes: Sequence[Path], output: Path) -> None:
    """Join mp4 files, one after another, into one; the same scenes give the same bytes.

    Raises `ValueError` without scenes, or when one has another codec, size, frame rate or encoder
    set-up than the first: such streams cannot be joined packet by packet.
    """
    if not scenes:
        raise ValueError("a film needs at least one scene; got none")
    with av.open(str(output), "w", format="mp4", options=MUXING) as film, ExitStack() as stack:
        first = _video(stack, scenes[0])
        target = film.add_stream_from_template(first)
        target.time_base = first.time_base
        shift = 0
        for path in scenes:
            source = _video(stack, path)
            if _form(source) != _form(first):
                raise ValueError(
                    f"{path} is {_words(source)}, the first scene {_words(first)}, or was encoded "
                    "otherwise; encode all scenes alike"
                )
            shift += _append(film, target, source, shift)


def _video(stack: ExitStack, path: Path) -> Any:
    return stack.enter_context(av.open(str(path))).streams.video[0]


def _form(stream: Any) -> tuple[Any, ...]:
    context = stream.codec_context
    return (
        context.name,
        context.width,
        context.height,
        context.pix_fmt,
        stream.average_rate,
        stream.time_base,
        context.extradata,
    )


def _words(stream: Any) -> str:
    context = stream.codec_context
    return f"{context.name} {context.width}×{context.height} at {stream.average_rate} frames/s"


def _append(film: Any, target: Any, source: Any, shift: int) -> int:
    """Copy a stream's packets, later by ``shift``; its length in ticks of its time base."""
    end = 0
    for packet in source.container.demux(source):
        if packet.dts is None:  # the demuxer's closing packet
            continue
        end = max(end, packet.pts + packet.duration)
        packet.pts += shift
        packet.dts += shift
        packet.stream = target
        film.mux_one(packet)
    return end
