"""The store of finished work: every step's result, under a key made of everything it depends on.

An artifact is a folder of files (one file is a folder of one). It is written aside and shown
complete or not at all, so a writer may die at any moment: what is present is whole. The store
lives on any file system pyarrow knows (local path, ``s3://``, ``gs://``); a local one renames
the finished folder into place, a remote one writes a small record last, which names the files.

It keeps no index and deletes nothing that was published.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol, Self

from pyarrow import fs as arrow_fs
from pydantic import BaseModel, ConfigDict, Field, field_validator

RECORD = "record.json"
_CHUNK_BYTES = 1 << 20

CODE_VERSIONS: Mapping[str, int] = {
    "corpus": 1,
    "index": 1,
    "plan": 1,
    "clips": 1,
    "motion-prior": 2,
    "subject-prior": 2,
    "scene": 2,
    "film": 1,
    "order": 1,
}
"""One number a kind of artifact. Raise it when the code that makes the kind changes its result:
what older code made is then made again, and nothing else is."""


class Artifact(BaseModel):
    """The name of a result: what kind it is, and the key of everything it depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        if kind not in CODE_VERSIONS:
            raise ValueError(f"unknown kind {kind!r}; known: {', '.join(CODE_VERSIONS)}")
        return kind

    def __str__(self) -> str:
        return f"{self.kind}-{self.key}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """The artifact with this name; the inverse of ``str``. Raises `ValueError`."""
        kind, _, key = name.rpartition("-")
        return cls(kind=kind, key=key)


class Place(BaseModel):
    """A file or folder that a step reads, known to keys by its content and not by where it lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    content: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """The place at ``path``, hashed. Raises `FileNotFoundError`."""
        return cls(path=str(path.resolve()), content=hash_path(path))


def key(kind: str, **inputs: object) -> str:
    """The key of an artifact: 32 hex digits over its kind, code version and inputs.

    Inputs are numbers, texts, records, dataclasses, `Place`s (by content), `Artifact`s (by key)
    and containers of these. Raises `TypeError` for a bare path: where a thing lies is not what
    it is. Raises `KeyError` for a kind without a code version.
    """
    identity = {"kind": kind, "code": CODE_VERSIONS[kind], "inputs": _identity(inputs)}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _identity(value: object) -> object:
    """``value`` as plain JSON in which places and artifacts are their content."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Place):
        return {"content": value.content}
    if isinstance(value, Mapping):
        return {str(name): _identity(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(_identity(part), sort_keys=True) for part in value)
    return _identity(_fields(value))


def _fields(value: object) -> dict[str, object]:
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    raise TypeError(
        f"a {type(value).__name__} cannot be part of a key: {value!r}; "
        "pass a file or folder as a Place, anything else as plain data"
    )


def hash_path(path: Path) -> str:
    """SHA-256 (32 hex digits) of a file's bytes, or of the names and bytes in a folder."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{file.relative_to(path).as_posix()} {hash_path(file)}" for file in files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()[:32]


class Store(Protocol):
    """Where artifacts live."""

    uri: str

    def has(self, artifact: Artifact) -> bool:
        """Whether it is there; what is there is complete."""

    def aside(self, artifact: Artifact) -> Path:
        """A fresh local folder to write it in; nobody reads it there."""

    def publish(self, artifact: Artifact, folder: Path, record: Mapping[str, Any]) -> bool:
        """Show the folder's files, with a record about them, all at once.

        The folder is gone afterwards. False if somebody else published the same key first:
        theirs stands, ours is thrown away.
        """

    def folder(self, artifact: Artifact) -> Path:
        """A local folder with its files, to be read only. Raises `FileNotFoundError`."""

    def record(self, artifact: Artifact) -> dict[str, Any]:
        """What was recorded when it was published. Raises `FileNotFoundError`."""


def open_store(uri: str, scratch: Path) -> Store:
    """The store at a path or URI; ``scratch`` is a local folder for what is unfinished."""
    if "://" not in uri or uri.startswith("file://"):
        return LocalStore(Path(uri.removeprefix("file://")))
    file_system, root = arrow_fs.FileSystem.from_uri(uri)
    return RemoteStore(uri, file_system, root, scratch)


class LocalStore:
    """Artifacts in a local folder, one folder each, shown by renaming."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.uri = str(self.root)
        self._unfinished = self.root / ".unfinished"
        self._unfinished.mkdir(parents=True, exist_ok=True)

    def _place(self, artifact: Artifact) -> Path:
        return self.root / artifact.kind / artifact.key

    def has(self, artifact: Artifact) -> bool:
        return (self._place(artifact) / RECORD).is_file()

    def aside(self, artifact: Artifact) -> Path:
        folder = self._unfinished / f"{artifact}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        return folder

    def publish(self, artifact: Artifact, folder: Path, record: Mapping[str, Any]) -> bool:
        _write_record(folder, artifact, record)
        _settle(folder)
        place = self._place(artifact)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(place)
        except OSError:
            if not self.has(artifact):
                raise
            shutil.rmtree(folder)
            self._log(artifact, "made in vain")
            return False
        _sync(place.parent)
        self._log(artifact, "published")
        return True

    def folder(self, artifact: Artifact) -> Path:
        if not self.has(artifact):
            raise FileNotFoundError(f"no artifact {artifact} in {self.uri}")
        return self._place(artifact)

    def record(self, artifact: Artifact) -> dict[str, Any]:
        return _read_record((self.folder(artifact) / RECORD).read_bytes())

    def sweep(self, scratch: Path | None = None) -> int:
        """Throw away what killed writers left unfinished, and how many that were.

        Of steps' ``scratch`` folders those whose artifacts are there: what was killed right after
        it had published. Only while nobody writes.
        """
        left = [*self._unfinished.iterdir(), *self._done_in(scratch)]
        for folder in left:
            shutil.rmtree(folder)
        return len(left)

    def _done_in(self, scratch: Path | None) -> Iterator[Path]:
        for folder in scratch.iterdir() if scratch and scratch.is_dir() else ():
            try:
                artifact = Artifact.parse(folder.name)
            except ValueError:  # what several steps share
                continue
            if self.has(artifact):
                yield folder

    def log(self) -> list[dict[str, Any]]:
        """Everything ever published here, in order."""
        file = self.root / "log.jsonl"
        if not file.exists():
            return []
        return [json.loads(line) for line in file.read_text().splitlines()]

    def _log(self, artifact: Artifact, event: str) -> None:
        line = {"event": event, "artifact": str(artifact), "time_s": time.time()}
        with (self.root / "log.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")


class RemoteStore:
    """Artifacts on a file system that cannot rename folders: files first, their record last.

    The record names the folder its files are in, so two writers never mix; the later record
    wins. What was read once is kept in the local scratch folder.
    """

    def __init__(self, uri: str, file_system: Any, root: str, scratch: Path) -> None:
        self.uri = uri
        self._files = file_system
        self._root = root.rstrip("/")
        self._local = LocalStore(scratch)

    def _record_path(self, artifact: Artifact) -> str:
        return f"{self._root}/{artifact.kind}/{artifact.key}/{RECORD}"

    def has(self, artifact: Artifact) -> bool:
        info = self._files.get_file_info(self._record_path(artifact))
        return bool(info.type == arrow_fs.FileType.File)

    def aside(self, artifact: Artifact) -> Path:
        return self._local.aside(artifact)

    def publish(self, artifact: Artifact, folder: Path, record: Mapping[str, Any]) -> bool:
        if self.has(artifact):
            shutil.rmtree(folder)
            return False
        files = f"{self._root}/{artifact.kind}/{artifact.key}/{uuid.uuid4().hex}"
        self._files.create_dir(files, recursive=True)
        local = arrow_fs.LocalFileSystem()
        arrow_fs.copy_files(
            str(folder), files, source_filesystem=local, destination_filesystem=self._files
        )
        with self._files.open_output_stream(self._record_path(artifact)) as stream:
            stream.write(_record_bytes(artifact, {**record, "files": files}))
        shutil.rmtree(folder)
        return True

    def folder(self, artifact: Artifact) -> Path:
        if not self._local.has(artifact):
            record = self.record(artifact)
            aside = self._local.aside(artifact)
            arrow_fs.copy_files(
                record["files"],
                str(aside),
                source_filesystem=self._files,
                destination_filesystem=arrow_fs.LocalFileSystem(),
            )
            self._local.publish(artifact, aside, record)
        return self._local.folder(artifact)

    def record(self, artifact: Artifact) -> dict[str, Any]:
        with self._files.open_input_file(self._record_path(artifact)) as stream:
            return _read_record(stream.read())


def _record_bytes(artifact: Artifact, record: Mapping[str, Any]) -> bytes:
    return json.dumps({**record, "artifact": str(artifact)}, indent=1).encode()


def _write_record(folder: Path, artifact: Artifact, record: Mapping[str, Any]) -> None:
    (folder / RECORD).write_bytes(_record_bytes(artifact, record))


def _read_record(data: bytes) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(data)
    return record


def _settle(folder: Path) -> None:
    """Make files and names durable, so that a rename cannot outlive them after a power cut."""
    paths: Iterable[Path] = sorted(folder.rglob("*"), reverse=True)
    for path in (*paths, folder):
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
