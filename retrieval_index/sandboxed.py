"""The process behind `retrieval_index.sandbox`: `python -m retrieval_index.sandboxed MEGABYTES`.

Questions come as JSON lines on its input; an answer is a JSON line, and after it so many bytes as
the line says.
"""

import json
import os
import resource
import sys
from dataclasses import asdict
from typing import Any, BinaryIO

from pipelines.video import Frames, Limits, VideoError, decode, fingerprint


def main() -> None:
    """Answer until the input ends."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    most = int(sys.argv[1]) << 20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        _answer(json.loads(line), answers)


def _answer(question: dict[str, Any], answers: BinaryIO) -> None:
    told, frames = _told(question)
    if frames is not None:
        told["num_bytes"] = frames.nbytes
    answers.write(json.dumps(told).encode() + b"\n")
    if frames is not None:
        answers.write(frames.data.cast("B"))
    answers.flush()


def _told(question: dict[str, Any]) -> tuple[dict[str, Any], Frames | None]:
    what, limits = question.pop("what"), Limits(**question.pop("limits"))
    try:
        if what == "decode":
            frames = decode(**question, limits=limits)
            return {"shape": frames.shape}, frames
        info, digest = fingerprint(**question, limits=limits)
        return {"info": asdict(info), "digest": digest}, None
    except VideoError as error:
        return {"reason": error.reason, "message": str(error)}, None
    except MemoryError:
        return {"reason": "out-of-memory", "message": f"{question['path']} needs too much"}, None
    except ValueError as error:
        return {"error": str(error)}, None


if __name__ == "__main__":
    main()
