"""Characters and their images: checked by content, kept under their hash, never by a name."""

import base64
import errno
import hashlib

import pytest

from serve.doors.app import make_doors
from tests.cluster.test_references import png_of
from tests.serve.doors.house import Caller, options, png

WORDS = {"name": "Mira", "phrase": "girl  witch"}


def upload(caller, *contents, words=WORDS, name="a.png", field="images"):
    files = [(field, (name, content, "image/png")) for content in contents]
    return caller("POST", "/v1/characters", data=words, files=files)


def as_json(caller, *images, **words):
    return caller("POST", "/v1/characters", json={**WORDS, **words, "images": list(images)})


def test_images_come_by_form_or_as_json(alice, stage):
    contents = [png(), png(colour="blue", kind="jpeg"), png(colour="green", kind="webp")]
    hashes = [hashlib.sha256(content).hexdigest() for content in contents]
    by_form = upload(alice, *contents)
    by_json = as_json(alice, *(base64.b64encode(content).decode() for content in contents))
    bracketed = upload(alice, *contents, field="images[]")
    for answer in (by_form, by_json, bracketed):
        assert answer.status_code == 201, answer.text
        character = answer.json()
        assert answer.headers["location"] == f"/v1/characters/{character['id']}"
        assert (character["name"], character["phrase"]) == ("Mira", "girl witch")
        assert character["images"] == hashes
        assert alice("GET", answer.headers["location"]).json() == character
    assert len(stage.images()) == 3
    assert stage.image_path(hashes[0]).read_bytes() == contents[0]


def test_characters_are_listed_and_forgotten(alice, bob):
    made = [upload(alice, png()).json()["id"] for _ in range(3)]
    page = alice("GET", "/v1/characters", params={"limit": 2}).json()
    assert [one["id"] for one in page["characters"]] == made[:0:-1]
    rest = alice("GET", "/v1/characters", params={"after": page["next"]}).json()
    assert ([one["id"] for one in rest["characters"]], rest["next"]) == (made[:1], None)
    assert bob("GET", "/v1/characters").json()["characters"] == []
    path = f"/v1/characters/{made[0]}"
    assert bob("GET", path).status_code == bob("DELETE", path).status_code == 404
    assert alice("DELETE", path).status_code == 204
    assert alice("GET", path).status_code == 404


@pytest.mark.parametrize(
    "name",
    ["../../../../tmp/evil.png", "/etc/passwd", "C:\\evil.png", "a\0b.png", "x" * 1000, ".."],
)
def test_a_clients_file_name_is_nothing(alice, stage, tmp_path, name):
    before = {path for path in tmp_path.rglob("*") if "ledger" not in path.name}
    assert upload(alice, png(), name=name).status_code == 201
    after = {path for path in tmp_path.rglob("*") if "ledger" not in path.name}
    assert after - before == {stage.images()[0]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no PNG"),
        (b"I am a picture", "no PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG"),
        (b"GIF89a" + bytes(100), "no PNG"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "damaged"),
        (b"\xff\xd8\xff" + bytes(100), "damaged"),
        (b"RIFF\x00\x00\x00\x00WEBP" + bytes(100), "damaged"),
        (png(4, 4), "at least 8"),
        (png(8200, 8), "at most 8192"),
        (png(64, 64)[:-40], "damaged"),
    ],
)
def test_what_is_no_sound_image_is_refused(alice, stage, content, words):
    for answer in (
        upload(alice, png(), content),
        as_json(alice, base64.b64encode(png()).decode(), base64.b64encode(content).decode()),
    ):
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["pointer"] == "#/images/1"
        assert words in answer.json()["errors"][0]["detail"]
    assert stage.images() == []


def test_a_huge_picture_is_refused_by_its_header(alice, tmp_path, stage):
    content = png_of(tmp_path / "huge.png", 40_000, 40_000).read_bytes()
    answer = upload(alice, content)
    assert answer.status_code == 422
    assert "40000 x 40000 pixels" in answer.json()["detail"]
    assert stage.images() == []


@pytest.mark.parametrize(
    "text",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://example.org/a.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "data:image/png;base64," + base64.b64encode(png()).decode(),
        base64.b64encode(png()).decode() + "\n",
        "é",
    ],
)
def test_nothing_is_fetched(alice, text):
    answer = as_json(alice, text)
    assert answer.status_code == 422
    assert "no address is fetched" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("words", "pointer"),
    [
        ({"name": "Mira"}, "#/phrase"),
        ({**WORDS, "name": "?"}, "#/name"),
        ({**WORDS, "name": "x" * 61}, "#/name"),
        ({**WORDS, "phrase": "a\x07b"}, "#"),
        ({**WORDS, "name": ["a", "b"]}, "#/name"),
        ({**WORDS, "path": "/tmp/x"}, "#/path"),
        ({**WORDS, "images": "http://example.org/a.png"}, "#/images"),
    ],
)
def test_odd_fields_are_told(alice, words, pointer):
    answer = upload(alice, png(), words=words)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_a_character_has_one_to_ten_images(alice):
    assert upload(alice, *[png()] * 10).status_code == 201
    assert upload(alice, *[png()] * 11).status_code in (400, 422)
    assert as_json(alice, *[base64.b64encode(png()).decode()] * 11).status_code == 422
    assert as_json(alice).status_code == 422
    answer = alice("POST", "/v1/characters", data=WORDS, files={"name": ("n", b"x")})
    assert answer.status_code == 422


def test_other_kinds_of_content_are_not_read(alice):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "image/png", ""):
        answer = alice("POST", "/v1/characters", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415
        assert answer.headers["content-type"] == "application/problem+json"
    kinds = {"Content-Type": "multipart/form-data"}  # without a boundary
    assert alice("POST", "/v1/characters", content=b"x", headers=kinds).status_code == 400
    kinds = {"Content-Type": "multipart/form-data; boundary=x"}
    assert alice("POST", "/v1/characters", content=b"--y", headers=kinds).status_code in (400, 422)
    kinds = {"Content-Type": "application/json"}
    for content in (b"{", b"", b"\xff", b"[" * 100_000, b"NaN"):
        answer = alice("POST", "/v1/characters", content=content, headers=kinds)
        assert answer.status_code in (400, 422), content[:10]


def test_a_key_keeps_so_many_characters(ledger, stage):
    app = make_doors(ledger, stage, options(max_characters=1))
    caller = Caller(app, ledger.add_key("small")[1])
    assert upload(caller, png()).status_code == 201
    answer = upload(caller, png())
    assert (answer.status_code, answer.json()["type"][-8:]) == (429, "too-many")


def test_a_full_disk_is_told(alice, stage, ledger, monkeypatch):
    def fails(_: bytes) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/place")

    with monkeypatch.context() as patched:
        patched.setattr(stage, "keep_image", fails)
        answer = upload(alice, png())
    assert (answer.status_code, answer.headers["retry-after"]) == (507, "60")
    assert answer.json()["type"].endswith("full")
    assert "secret" not in answer.text
    with ledger._database.writing() as db:
        size = db.exec_driver_sql("PRAGMA page_count").scalar()
        db.exec_driver_sql(f"PRAGMA max_page_count = {size}")
    words = {**WORDS, "name": "x" * 60, "phrase": "y" * 60}
    codes = {upload(alice, png(), words=words).status_code for _ in range(200)}
    assert codes == {201, 507}
