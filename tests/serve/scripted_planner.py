"""A planner's model that knows one story by heart, behind OpenAI's chat protocol.

Every story is one scene of the pirate and the witch; one about the ``impossible`` is refused.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

BEATS = (
    ("pirate", "bowing", "The pirate is bowing in the forest."),
    ("pirate", "kicking", "Then the pirate is kicking."),
    ("witch", "walking", "The witch is walking."),
)


def outlines() -> dict[str, Any]:
    beats = [{"name": n, "motion": motion, "sentence": said} for n, motion, said in BEATS]
    return {"scenes": [{"place": "forest", "beats": beats}]}


def layout() -> dict[str, Any]:
    def region(entity: str, motion: str, left: int) -> dict[str, Any]:
        return {"entity": entity, "motion": motion, "box": [left, 10, left + 35, 100]}

    frames = [
        [
            region("pirate", "bowing" if second < 3 else "kicking", 5),
            region("witch", "walking", 60 - 5 * (second // 2)),
        ]
        for second in range(6)
    ]
    return {"reasoning": "", "background": "the forest", "key_frames": frames}


class _Model(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        schema = asked["response_format"]["json_schema"]["schema"]
        answer = outlines() if "scenes" in schema["properties"] else layout()
        said = {"role": "assistant", "content": json.dumps(answer)}
        choice = {"index": 0, "finish_reason": "stop", "message": said}
        reply = {"id": "1", "object": "chat.completion", "created": 0, "model": asked["model"]}
        body = json.dumps({**reply, "choices": [choice]}).encode()
        self.send_response(400 if "impossible" in asked["messages"][-1]["content"] else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


@contextmanager
def scripted_planner() -> Iterator[str]:
    """Its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
