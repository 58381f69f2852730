"""`dreamrunner serve`: the whole cluster on this machine. `dreamrunner key`: who may use it."""

import errno
import ipaddress
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from cluster.artifacts import LocalStore
from cluster.ledger import Key, KeyNameError, Ledger, LedgerUrlError
from cluster.local import LocalRay, end_leftovers
from cluster.locate import open_studio
from cluster.profiles import first_fault, load_profile
from cluster.steps import first_line
from cluster.workdir import WorkDir
from serve.app_args import APP, AppArgs
from serve.config import serve_config
from serve.errors import InputError, UnavailableError
from serve.premises import Site
from serve.pulse import Pulse
from serve.story_input import check_work_dir
from serve.withdrawal import withdraw

LEDGER = "ledger.sqlite"
RAY_ENVIRONMENT = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.front:middlewares",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
    "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1000000",
    "RAY_process_group_cleanup_enabled": "1",
}
"""Of all of Ray's processes. Nobody is answered while the proxy is missed. How often a replica is
started that dies as it starts is each deployment's to say (`serve.app`). What a worker started
ends with it, however it ends: vLLM's engine would stay, and keep its GPU."""


def run(
    *,
    profile_name: str,
    work_dir: Path,
    as_json: bool,
    host: str,
    port: int,
    auth: bool,
    gateways: int,
    planner: str,
) -> int:
    """Serve until told to stop; what is under way then goes on at the next start. When Ray dies,
    the process ends."""
    if not auth and not _is_loopback(host):
        raise InputError(f"without keys only this machine may ask; {host} is open to others")
    profile = load_profile(profile_name)
    check_work_dir(work_dir)
    work = WorkDir(work_dir)
    application = AppArgs.model_validate(
        {
            "profile": profile_name,
            "work_dir": str(work.root.resolve()),
            "auth": auth,
            "gateways": gateways,
            "planner": planner,
        }
    )
    open_studio(Site(application).profile, work)  # what is missing is told before Ray starts
    with work.locked():
        check_free(host, port)
        end_leftovers(work)
        LocalStore(work.artifacts).sweep(work.scratch)
        ray = LocalRay(work, profile.resources.machine)
        os.environ.update(RAY_ENVIRONMENT)
        told = threading.Event()
        try:
            ray.start()
            with closing(Pulse.of(work, told)):
                _deploy(application, host, port)
                secret = _first_key(work) if auth else None
                _say(host, port, secret, _metrics(), as_json=as_json)
                _until(told)
                withdraw()
        finally:
            ray.stop()
    return 0


def config(*, as_json: bool, host: str, port: int, **args: Any) -> int:
    """Print the Serve config of an application on many machines."""
    told = {name: value for name, value in args.items() if value is not None}
    try:
        application = AppArgs.model_validate(told)
    except ValidationError as error:
        raise InputError(first_fault(error)) from error
    plain = serve_config(application, host=host, port=port)
    text = json.dumps(plain) if as_json else yaml.safe_dump(plain, sort_keys=False)
    sys.stdout.write(text + ("\n" if as_json else ""))
    return 0


def _deploy(application: AppArgs, host: str, port: int) -> None:
    """Raises `UnavailableError` when Serve gives it up."""
    from ray import serve

    from serve.app import build

    folder = WorkDir(Path(application.work_dir)).logs / "serve"
    logs = {"logs_dir": str(folder)}
    http = {"host": host, "port": port, "request_timeout_s": None}
    try:
        serve.start(http_options=http, logging_config=logs)
        serve.run(build(application), name=APP, route_prefix="/", logging_config=logs)
    except RuntimeError as error:
        raise UnavailableError(f"{first_line(error)} (more in {folder})") from error


def _metrics() -> str:
    """Where Ray tells Prometheus of this machine: on loopback, unless it is a Ray that was there
    before."""
    import ray

    node = ray.nodes()[0]
    return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"


def _say(host: str, port: int, secret: str | None, metrics: str, *, as_json: bool) -> None:
    url = f"http://{host}:{port}"
    if as_json:
        line = json.dumps({"url": url, "key": secret, "metrics": metrics})
    else:
        key = f"\nA first key, shown this once: {secret}" if secret else ""
        line = (
            f"dreamrunner serves at {url} (API: {url}/openapi.json; for Prometheus: {metrics}){key}"
            "\nStop it with Ctrl-C."
        )
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def check_free(host: str, port: int) -> None:
    """Raise `UnavailableError` where a server listens there already: Serve's proxy would share the
    port with it, and each have a part of the requests. `InputError` for no address of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that just ended
            probe.bind(address)
    except socket.gaierror as error:
        raise InputError(f"{host} is no address: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(
                f"{host} is no address of this machine; give another --host"
            ) from error
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
        raise UnavailableError(f"port {port} of {host} {why}; give another --port") from error


def _until(told: threading.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    told.wait()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _first_key(work: WorkDir) -> str | None:
    """The secret of a first key, where there is none yet."""
    with opened_ledger(None, work) as ledger:
        every_key = ledger.keys()
        if any(not key.revoked for key in every_key):
            return None
        return ledger.add_key("first")[1]


@contextmanager
def opened_ledger(url: str | None, work: WorkDir) -> Iterator[Ledger]:
    """The ledger at a URL, or the one in a work folder. Raises `InputError` where none can be, and
    for a key that cannot be called so; `UnavailableError` where it cannot be reached."""
    try:
        with closing(Ledger(url or f"sqlite:///{work.root.resolve() / LEDGER}")) as ledger:
            yield ledger
    except (LedgerUrlError, KeyNameError) as error:
        raise InputError(str(error)) from error
    except DBAPIError as error:
        raise UnavailableError(f"the ledger cannot be reached: {error.orig}") from error


def keys(
    *,
    action: str,
    name: str | None,
    work_dir: Path,
    ledger_url: str | None,
    as_json: bool,
    weight: float,
    max_waiting: int,
    max_gpu_s_a_day: float | None,
) -> int:
    """Add, list or revoke keys."""
    if action == "list" and name is not None:
        raise InputError("key list takes no name")
    if action != "add" and ledger_url is None and not (work_dir / LEDGER).is_file():
        raise InputError(f"no key was ever kept in {work_dir}: name the server's --work-dir")
    check_work_dir(work_dir)
    with opened_ledger(ledger_url, WorkDir(work_dir)) as ledger:
        if action == "list":
            every_key = ledger.keys()
            _tell([_row(key) for key in every_key], as_json=as_json)
        elif name is None:
            raise InputError(f"key {action} takes a name")
        elif action == "add":
            key, secret = ledger.add_key(
                name, weight=weight, max_waiting=max_waiting, max_gpu_s_a_day=max_gpu_s_a_day
            )
            _tell([{**_row(key), "secret": secret}], as_json=as_json)
        else:
            _tell(_revoke(ledger, name), as_json=as_json)
    return 0


def _revoke(ledger: Ledger, name: str) -> list[dict[str, Any]]:
    every_key = ledger.keys()
    known = [key for key in every_key if name in (key.id, key.name) and not key.revoked]
    if not known:
        raise InputError(f"no key {name!r} that could be revoked")
    for key in known:
        ledger.revoke_key(key.id)
    return [{**_row(key), "revoked": True} for key in known]


def _row(key: Key) -> dict[str, Any]:
    return key.model_dump(mode="json")


def _tell(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for row in rows:
        state = " (revoked)" if row["revoked"] else ""
        secret = f"  {row['secret']}" if "secret" in row else ""
        limit = row["max_gpu_s_a_day"]
        quota = "no GPU limit" if limit is None else f"{limit:g} GPU s a day"
        shares = f"weight {row['weight']:g}, {quota}, {row['max_waiting']} may wait"
        sys.stdout.write(f"{row['id']}  {row['name']}{state}  {shares}{secret}\n")
