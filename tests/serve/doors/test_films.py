"""Films go out whole and in parts, to their owner, when they are finished."""

import httpx
import pytest

from cluster.ledger import Ledger
from serve.doors.app import make_doors
from serve.doors.examples import PLAN
from tests.serve.doors.house import FILM, FILM_BYTES, Caller, finish, listening, options, png

SIZE = len(FILM_BYTES)


@pytest.fixture
def film(alice: Caller, ledger: Ledger) -> str:
    """The path of a finished film."""
    story = alice.order()
    finish(ledger, story)
    return f"/v1/stories/{story}/film"


def test_a_film_and_its_sheet_go_out(alice, film):
    answer = alice("GET", film)
    assert (answer.status_code, answer.content) == (200, FILM_BYTES)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["etag"] == f'"{FILM}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    sheet = alice("GET", film.replace("film", "sheet"))
    assert (sheet.content, sheet.headers["content-type"]) == (png(), "image/png")


def test_a_head_says_all_but_the_film(alice, film):
    answer = alice("HEAD", film)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(SIZE)
    assert alice("HEAD", film.replace("film", "sheet")).status_code == 200


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        ("bytes=100-199", 100, 200),
        ("Bytes= 100 - 199", 100, 200),
        (f"bytes=100-{10 * SIZE}", 100, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        (f"bytes=-{2 * SIZE}", 0, SIZE),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
    ],
)
def test_a_range_goes_out_alone(alice, film, asked, first, end):
    answer = alice("GET", film, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == FILM_BYTES[first:end]
    assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - first)
    assert answer.headers["etag"] == f'"{FILM}"'


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(alice, film, asked):
    answer = alice("GET", film, headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 416


@pytest.mark.parametrize(
    "odd",
    [
        "bytes=",
        "bytes=-",
        "bytes=5-1",
        "lines=0-1",
        "bytes=0-1,5-6",
        "bytes=a-b",
        "0-1",
        "bytes=" + "9" * 5000 + "-",
        "bytes=" + ",".join(["0-"] * 2000),
    ],
)
def test_an_odd_range_is_no_range(alice, film, odd):
    answer = alice("GET", film, headers={"Range": odd})
    assert (answer.status_code, answer.content) == (200, FILM_BYTES)


def test_a_range_of_another_film_is_no_range(alice, film):
    for etag, status in ((f'"{FILM}"', 206), ('"film-other"', 200), (f'W/"{FILM}"', 200)):
        headers = {"Range": "bytes=0-9", "If-Range": etag}
        assert alice("GET", film, headers=headers).status_code == status
    headers = {"Range": f"bytes={SIZE}-", "If-Range": '"film-other"'}
    assert alice("GET", film, headers=headers).status_code == 200


def test_who_has_it_is_told_so(alice, film):
    answer = alice("GET", film, headers={"If-None-Match": f'"{FILM}"'})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == f'"{FILM}"'
    assert alice("GET", film, headers={"If-None-Match": '"other"'}).status_code == 200


def test_there_is_no_film_before_the_end(alice, ledger):
    story = alice.order()
    for path in ("film", "sheet"):
        answer = alice("GET", f"/v1/stories/{story}/{path}")
        assert (answer.status_code, answer.json()["type"][-9:]) == (409, "too-early")
        assert alice("HEAD", f"/v1/stories/{story}/{path}").status_code == 409


def test_a_lost_film_is_told(alice, ledger):
    story = alice.order()
    ledger.take(1)
    ledger.advance(story, "finished", film="film-" + "ff" * 16)
    answer = alice("GET", f"/v1/stories/{story}/film")
    assert (answer.status_code, answer.json()["type"][-7:]) == (404, "unknown")


@pytest.mark.parametrize("odd", ["film.json", "film%2f..%2fplan", "..%2f..%2fledger.db", "film%00"])
def test_there_are_no_other_files(alice, film, odd):
    assert alice("GET", film.replace("film", odd)).status_code == 404


def test_ranges_from_a_real_server(ledger, stage):
    app = make_doors(ledger, stage, options())
    secret = ledger.add_key("viewer")[1]
    story = Caller(app, secret).order()
    finish(ledger, story)
    headers = {"Authorization": f"Bearer {secret}"}
    with listening(app) as url, httpx.Client(base_url=url, headers=headers) as client:
        path = f"/v1/stories/{story}/film"
        assert client.get(path).content == FILM_BYTES
        assert client.get(path, headers={"Range": "bytes=5-9"}).content == FILM_BYTES[5:10]
        assert client.get(path, headers={"Range": f"bytes={SIZE}-"}).status_code == 416
        assert client.head(path).headers["content-length"] == str(SIZE)


def test_an_edit_that_comes_to_nothing_leaves_the_film_that_was_there(alice, ledger):
    story = alice.order(characters=["pirate"], num_scenes=1)
    path, edits = f"/v1/stories/{story}", {"If-Match": "*"}
    assert alice("GET", path).json()["film_revision"] is None
    finish(ledger, story, PLAN)
    assert alice("GET", path).json()["film_revision"] == 1
    assert alice("PUT", f"{path}/plan", json=PLAN, headers=edits).status_code == 202
    assert alice("GET", f"{path}/film").content == FILM_BYTES
    alice("POST", f"{path}/cancel")
    shown = alice("GET", path).json()
    assert (shown["state"], shown["revision"], shown["film_revision"]) == ("cancelled", 2, 1)
    assert alice("GET", f"{path}/film").content == FILM_BYTES
    assert alice("GET", f"/v1/videos/video_{story[6:]}/content").content == FILM_BYTES
    assert alice("PUT", f"{path}/plan", json=PLAN, headers=edits).status_code == 202
    finish(ledger, story)
    assert alice("GET", path).json()["film_revision"] == 3
    told = [event.data for event in ledger.events(story) if event.kind == "state"]
    assert [one["revision"] for one in told if "film" in one] == [1, 3]
