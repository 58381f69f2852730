"""Manifests of three kinds, and rows that are no rows."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval_index.build import _read_again
from retrieval_index.findings import buried
from retrieval_index.manifest import (
    Fault,
    count_rows,
    read_manifest,
    read_part,
    split_manifest,
)
from retrieval_index.schemas import DEAD_LETTERS

ROWS = [
    {"path": "a.mp4", "caption": "a person is walking", "source": "world", "licence": "CC0"},
    {"path": "sub/b.mp4", "caption": 'says "hi", waves', "source": "", "licence": ""},
]


def write(folder: Path, kind: str) -> Path:
    path = folder / f"manifest.{kind}"
    table = pa.Table.from_pylist(ROWS)
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "csv":
        table.to_pandas().to_csv(path, index=False)
    else:
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_the_three_kinds_say_the_same(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    rows, faults = read_manifest(path)
    assert not faults
    assert count_rows(path, split_manifest(path)) == len(rows)
    assert [row.caption for row in rows] == [row["caption"] for row in ROWS]
    assert [row.path for row in rows] == [
        str(tmp_path / "a.mp4"),
        str(tmp_path / "sub" / "b.mp4"),
    ]
    assert (rows[0].source, rows[0].licence, rows[1].licence) == ("world", "CC0", "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "not-a-row"),
        ("[1, 2]", "not-a-row"),
        ('{"path": "a.mp4"}', "no-caption"),
        ('{"caption": "a"}', "no-path"),
        ('{"path": "a.mp4", "caption": "  "}', "no-caption"),
        ('{"path": "a.mp4", "caption": 3}', "bad-field"),
        ('{"path": "a\\u0000.mp4", "caption": "a"}', "bad-field"),
        (json.dumps({"path": "a.mp4", "caption": "a" * 5000}), "bad-field"),
        ("[" * 100_000, "not-a-row"),
        ('{"path": "a.mp4", "caption": "a", "start_s": 3, "end_s": 2}', "bad-window"),
        ('{"path": "a.mp4", "caption": "a", "start_s": -1}', "bad-field"),
        ('{"path": "a.mp4", "caption": "a", "end_s": "soon"}', "bad-field"),
        ('{"path": "https://host/a.mp4", "caption": "a"}', "bad-place"),
        ('{"path": "a.mp4", "caption": "x \\ud83d y"}', "bad-field"),
        ('{"path": "\\ud83d.mp4", "caption": "a"}', "bad-field"),
        ('"x \\ud83d y"', "not-a-row"),
        ('" x "', "not-a-row"),
        ('{"path": "a.mp4", "caption": "a", "start_s": ' + "1" * 5000 + "}", "not-a-row"),
        ('{"path": "a.mp4", "caption": "a", "start_s": ' + "1" * 400 + "}", "bad-field"),
    ],
)
def test_a_bad_row_is_a_fault_and_the_rest_is_read(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f'{line}\n{{"path": "b.mp4", "caption": "b"}}\n')
    rows, faults = read_manifest(path)
    assert [row.caption for row in rows] == ["b"]
    assert [fault.reason for fault in faults] == [reason]
    letter = buried(faults[0]).finding.dead_letter
    assert letter is not None
    assert pa.Table.from_pylist([letter], DEAD_LETTERS).num_rows == 1
    assert _read_again(letter["row"]).key == letter["id"], "tried again, it is the same letter"


def test_a_row_of_more_fields_than_columns_may_be_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("path,caption,start_s\na.mp4,walks, then runs,3\nb.mp4,b,\n")
    rows, (fault,) = read_manifest(path)
    assert [row.caption for row in rows] == ["b"]
    assert (fault.reason, json.loads(fault.row)["None"]) == ("bad-field", ["3"])
    assert _read_again(fault.row).key == fault.key


def test_a_link_that_leads_nowhere_is_a_row_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "latin.mp4").symlink_to(os.fsdecode(b"caf\xe9.mp4"))
    path = tmp_path / "m.csv"
    path.write_text("path,caption\nloop.mp4,a\nlatin.mp4,a\n")
    rows, faults = read_manifest(path)
    assert not faults
    assert [row.path for row in rows] == [str(tmp_path / "loop.mp4"), str(tmp_path / "latin.mp4")]
    assert len({row.key for row in rows}) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.txt", b""),
        ("missing.jsonl", None),
        ("m.csv", b"file,text\na,b\n"),
        ("m.csv", "path,caption\na.mp4,a\n".encode("utf-16")),
        ("m.parquet", b"no parquet"),
    ],
)
def test_a_manifest_that_is_none_is_refused(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="manifest"):
        read_manifest(tmp_path / name)


def test_windows_and_places_of_an_object_store(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(
        "id,path,caption,start_s,end_s\n7,s3://films/a.mp4,walks,3,5.5\n,b.mp4,runs,,\n"
    )
    (window, whole), faults = read_manifest(path)
    assert not faults
    assert (window.path, window.span, window.external_id) == ("s3://films/a.mp4", (3, 5.5), "7")
    assert whole.span == (0, None)
    assert len({window.key, whole.key}) == 2


@pytest.mark.parametrize("part_bytes", [1, 7, 64, 10**6])
def test_parts_hold_every_line_once(tmp_path: Path, part_bytes: int) -> None:
    path = tmp_path / "m.jsonl"
    lines = [
        json.dumps({"path": f"{n}.mp4", "caption": "é" * n}, ensure_ascii=False) for n in range(9)
    ]
    path.write_bytes("\n\n".join(lines).encode() + b"\n\xff\xfe")
    parts = split_manifest(path, part_bytes)
    items = [item for part in parts for item in read_part(part)]
    assert [item.caption for item in items[:-1] if not isinstance(item, Fault)] == [
        "é" * n for n in range(1, 9)
    ]
    assert [item.reason for item in items if isinstance(item, Fault)] == ["no-caption", "not-a-row"]
    assert count_rows(path, parts) == len(items) == 10


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_bad_row_of_a_csv_is_a_fault_and_the_rest_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "m.csv"
    long = "y" * 140_000
    lines = ["\ufeffpath,caption", "a.mp4,a", "b.mp4,caf~", f"c.mp4,{long}", 'd.mp4,"d', 'd"']
    path.write_bytes(ending.join([*lines, ""]).encode().replace(b"~", b"\xe9"))
    rows, (latin, endless) = read_manifest(path)
    assert [row.caption for row in rows] == ["a", f"d{ending}d"]
    assert (latin.reason, endless.reason) == ("bad-field", "not-a-row")
    assert endless.row == f"c.mp4,{long}"
    assert count_rows(path, split_manifest(path)) == 4
    for fault in (latin, endless):
        assert _read_again(fault.row).key == fault.key


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_is_written_below_a_manifest_is_none_of_its_rows(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    parts = split_manifest(path)
    with path.open("a") as file:
        file.write(path.read_text().split("\n")[1] + "\n")
    assert count_rows(path, parts) == len([item for part in parts for item in read_part(part)]) == 2
    assert count_rows(path, split_manifest(path)) == 3


def test_what_pandas_leaves_empty_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    row = '{"path": "a.mp4", "caption": "a", "id": %s, "licence": NaN, "end_s": NaN}'
    ids = ("0", "1", "1.0", "1.5", "NaN", "12345678901234567890", '"x"')
    path.write_text("\n".join(row % id_ for id_ in ids))
    rows, faults = read_manifest(path)
    assert not faults
    assert [row.external_id for row in rows] == [
        "0", "1", "1", "1.5", "", "12345678901234567890", "x",
    ]  # fmt: skip
    assert {(row.licence, row.end_s) for row in rows} == {("", None)}
