"""`serve`, `serve-config` and `key`: what whoever runs a server says."""

from typing import Any

from serve.command_line.options import add_studio_options, add_work_dir_option
from serve.command_line.parser import add_command
from serve.command_line.values import above_zero, between


def add_serve(commands: Any) -> None:
    """Add `serve`."""
    serve = add_command(
        commands,
        "serve",
        "serving:run",
        what="serve stories over HTTP from this machine",
        example="dreamrunner serve --port 8000",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serve.add_argument("--port", type=between(1, 65535), default=8000)
    serve.add_argument("--gateways", type=between(1, 64), default=2, help="replicas of the doors")
    _add_planner_option(serve)
    serve.add_argument(
        "--no-auth",
        dest="auth",
        action="store_false",
        help="ask for no key; on a loopback address only",
    )
    add_studio_options(serve)


def add_serve_config(commands: Any) -> None:
    """Add `serve-config`."""
    config = add_command(
        commands,
        "serve-config",
        "serving:config",
        what="print the Ray Serve config of a cluster, for `serve deploy` and KubeRay",
        example="dreamrunner serve-config --profile deploy/cluster.yaml --work-dir /shared",
    )
    config.add_argument("--profile", default="miniature", metavar="NAME")
    config.add_argument("--work-dir", required=True, help="a folder that every machine sees")
    config.add_argument("--artifacts", metavar="URI", help="artifact store, e.g. s3://bucket/made")
    config.add_argument("--ledger", metavar="URL", help="postgresql+psycopg://…")
    config.add_argument("--flows", metavar="URL", help="postgresql://…")
    config.add_argument("--gateways", type=between(1, 64), default=2)
    config.add_argument("--max-stories", type=between(1, 100_000), default=64)
    _add_planner_option(config)
    config.add_argument("--control", metavar="RESOURCE", help="Ray resource of machines that stay")
    config.add_argument("--host", default="0.0.0.0")
    config.add_argument("--port", type=between(1, 65535), default=8000)


def _add_planner_option(command: Any) -> None:
    command.add_argument(
        "--planner",
        choices=("profile", "vllm"),
        default="profile",
        help="who plans: the profile's engine, or its model in a vLLM deployment",
    )


def add_key(commands: Any) -> None:
    """Add `key`."""
    key = add_command(
        commands,
        "key",
        "serving:keys",
        what="add, list or revoke keys of a server",
        example="dreamrunner key add studio-7 --weight 3",
    )
    key.add_argument("action", choices=("add", "list", "revoke"))
    key.add_argument("name", nargs="?", default=None, help="of a key; to revoke, its id does too")
    _add_quota_options(key)
    key.add_argument(
        "--ledger",
        dest="ledger_url",
        default=None,
        metavar="URL",
        help="PostgreSQL's, as in serve-config (default: the work folder's own)",
    )
    add_work_dir_option(key, "of the server")


def _add_quota_options(key: Any) -> None:
    key.add_argument(
        "--weight", type=above_zero, default=1.0, metavar="W", help="share among keys that wait"
    )
    key.add_argument(
        "--max-waiting",
        type=between(1, 10_000_000),
        default=1000,
        metavar="N",
        help="stories of this key that may wait",
    )
    key.add_argument(
        "--max-gpu-s-a-day",
        type=above_zero,
        default=None,
        metavar="S",
        help="GPU seconds of this key a day (default: no limit)",
    )
