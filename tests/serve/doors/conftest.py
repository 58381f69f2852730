"""Doors over a fresh ledger, and callers with keys of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from cluster.ledger import Ledger
from serve.doors.app import make_doors
from tests.serve.doors.house import Caller, Stage, options


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield opened
    opened.close()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    folder = tmp_path / "stage"
    folder.mkdir()
    return Stage(folder)


@pytest.fixture
def app(ledger: Ledger, stage: Stage) -> FastAPI:
    return make_doors(ledger, stage, options())


@pytest.fixture
def alice(app: FastAPI, ledger: Ledger) -> Caller:
    return Caller(app, ledger.add_key("alice")[1])


@pytest.fixture
def bob(app: FastAPI, ledger: Ledger) -> Caller:
    return Caller(app, ledger.add_key("bob")[1])
