"""A video from a running dreamrunner, with the stock openai client.

    export OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=dr_…
    python examples/openai_client.py "The pirate is bowing on the beach" video.mp4

Prints how far it is, and ends with 1 and the reason if there will be no video.
"""
# ruff: noqa: T201

import sys
import time
from pathlib import Path

from openai import OpenAI

POLL_S = 1.0


def main(prompt: str, output: Path) -> int:
    client = OpenAI()
    video = client.videos.create(prompt=prompt)
    print(f"{video.id}: {video.model}, {video.size}, {video.seconds} s")
    told = ""
    while video.status in ("queued", "in_progress"):
        if (now := f"{video.status}, {video.progress} %") != told:
            print(told := now, flush=True)
        time.sleep(POLL_S)
        video = client.videos.retrieve(video.id)
    if video.status == "failed":
        print(f"failed: {video.error.message if video.error else 'nobody knows why'}")
        return 1
    client.videos.download_content(video.id).write_to_file(output)
    print(f"{video.status}, {video.progress} %: {output} has {output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: openai_client.py PROMPT FILE.mp4")
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
