"""The application as Ray Serve's own config, for ``serve deploy`` and KubeRay's RayService."""

from typing import Any

from serve.app_args import APP, AppArgs


def serve_config(args: AppArgs, *, host: str = "0.0.0.0", port: int = 8000) -> dict[str, Any]:
    """A Serve config, as plain data, that builds the application of these arguments."""
    return {
        "http_options": {"host": host, "port": port, "request_timeout_s": None},
        "proxy_location": "HeadOnly",
        "applications": [
            {
                "name": APP,
                "route_prefix": "/",
                "import_path": "serve.app:build",
                "args": args.model_dump(mode="json", exclude_defaults=True),
            }
        ],
    }
