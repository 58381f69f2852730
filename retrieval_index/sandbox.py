"""Reads videos in a process of its own, which a file may crash, hang or swell: then that file is
refused, and the next is read by a fresh process."""

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from pipelines.video import Frames, Limits, VideoError, VideoInfo
from retrieval_index.options import VideoLimits

HEADROOM_MB = 1024
"""Address space beside the decoded frames."""


class Sandbox:
    """One reading process, started when it is needed; `close` it in the end."""

    def __init__(self, limits: VideoLimits) -> None:
        self._limits = Limits(**limits.model_dump(exclude={"max_read_s"}))
        self._max_read_s = limits.max_read_s
        self._process: subprocess.Popen[bytes] | None = None

    def fingerprint(
        self, path: str, start_s: float = 0.0, end_s: float | None = None
    ) -> tuple[VideoInfo, str]:
        """As `pipelines.video.fingerprint`; also raises crashed, too-slow and out-of-memory."""
        answer, _ = self._ask("fingerprint", path=path, start_s=start_s, end_s=end_s)
        return VideoInfo(**answer["info"]), answer["digest"]

    def decode(
        self, path: str, fps: float, start_s: float = 0.0, end_s: float | None = None
    ) -> Frames:
        """As `pipelines.video.decode`; also raises crashed, too-slow and out-of-memory."""
        answer, frames = self._ask("decode", path=path, fps=fps, start_s=start_s, end_s=end_s)
        return frames.reshape(answer["shape"])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None

    def _ask(self, what: str, **words: Any) -> tuple[dict[str, Any], Frames]:
        until = time.monotonic() + self._max_read_s
        try:
            process = self._started()
            assert process.stdin is not None
            question = {"what": what, "limits": asdict(self._limits), **words}
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(self._line(until))
            payload = self._exactly(answer.pop("num_bytes", 0), until)
        except (EOFError, BrokenPipeError) as error:
            self.close()
            message = f"{words['path']} ended the process that read it"
            raise VideoError("crashed", message) from error
        except TimeoutError as error:
            self.close()
            message = f"{words['path']} was not read after {self._max_read_s:g} s"
            raise VideoError("too-slow", message) from error
        except BaseException:
            self.close()  # an answer is under way that nobody will read
            raise
        if "reason" in answer:
            raise VideoError(answer["reason"], answer["message"])
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer, payload

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            most_mb = round(self._limits.max_decoded_mb * 2) + HEADROOM_MB
            self._process = subprocess.Popen(
                [sys.executable, "-m", "retrieval_index.sandboxed", str(most_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        return self._process

    def _line(self, until: float) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self._exactly(1, until).tobytes()
        return bytes(line)

    def _exactly(self, num_bytes: int, until: float) -> Frames:
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        filled = np.empty(num_bytes, np.uint8)
        rest = filled.data
        while rest:
            readable, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            if not readable:
                raise TimeoutError
            got = os.readv(pipe, [rest])
            if not got:
                raise EOFError
            rest = rest[got:]
        return filled
