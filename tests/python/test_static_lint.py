"""What a linter of HTTP says of static files: redbot asks for each in every way it knows, and must have nothing to complain about."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.certificates import Authority
from support.gateway import GatewayProcess

PAGE = '<!DOCTYPE html><html lang="en"><title>Notes</title><link rel="stylesheet" href="site.css"><p>Notes</p></html>'
STYLE = "\n".join(f".note-{number} {{ margin: {number}px }}" for number in range(2_000))
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)
# Each longer than the range that redbot asks for, or empty.
CONTENTS: dict[str, bytes] = {
    "index.html": PAGE.encode(),
    "site.css": STYLE.encode(),
    "site.css.gz": gzip.compress(STYLE.encode()),
    "site.js": b"console.log('notes')\n" * 2_000,
    "site.js.gz": gzip.compress(b"console.log('notes')\n" * 2_000),
    "pixel.png": PIXEL.ljust(500, b"\0"),
    "data.json": json.dumps({"notes": list(range(500))}).encode(),
    "long.txt": b"a line of a long file\n" * 20_000,
    "empty.txt": b"",
    "a b;c.txt": "Grüße\n".encode() * 100,
    "folder/index.html": PAGE.encode(),
}
PATHS = ["", *(name for name in CONTENTS if not name.endswith(".gz")), "folder/"]

SILENCE = "FRESHNESS_HEURISTIC"
"""That caches must guess how long an answer lasts: true where the operator has said nothing of it."""


@dataclass(kw_only=True)
class FilesGateway(GatewayProcess):
    """A gateway that serves one directory with two policies of caching, and nothing else."""

    root: Path

    def _tables(self) -> str:
        routes = [("cached", ', cache_control = "max-age=600"'), ("plain", "")]
        return super()._tables() + "".join(
            f"""
    [[route]]
    name = "{name}"
    path = "/{name}/"
    auth = "public"
    files = {{ root = "{self.root}"{keys} }}
"""
            for name, keys in routes
        )


@pytest.fixture(scope="module")
def files(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilesGateway]:
    """That gateway, running."""
    root = tmp_path_factory.mktemp("root")
    for name, content in CONTENTS.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    gateway = FilesGateway(directory=tmp_path_factory.mktemp("linted"), authority=authority, root=root)
    gateway.start()
    yield gateway
    gateway.stop()


def _flat(notes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for note in notes:
        yield note
        yield from _flat(note.get("subnotes", []))


def _lint(gateway: GatewayProcess, path: str) -> tuple[int, list[dict[str, Any]]]:
    """The status of a URL, and every note that redbot takes of it and of the requests it made beside."""
    done = subprocess.run(
        [sys.executable, "-m", "redbot.cli", "--output-format", "har", f"https://127.0.0.1:{gateway.port}{path}"],
        env={"LANG": "C.UTF-8"},
        cwd=gateway.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (entry,) = json.loads(done.stdout)["log"]["entries"]
    return entry["response"]["status"], list(_flat(entry["_red_messages"]))


def _complaints(notes: list[dict[str, Any]]) -> dict[str, str]:
    """The summaries of what is wrong or doubtful, by their names."""
    return {note["note_id"]: note["summary"] for note in notes if note["level"] in {"WARN", "BAD"}}


@pytest.mark.parametrize("route", ["cached", "plain"])
@pytest.mark.parametrize("name", PATHS)
def test_a_linter_finds_nothing_wrong_with_a_file(files: FilesGateway, route: str, name: str) -> None:
    status, notes = _lint(files, f"/{route}/{name.replace(' ', '%20')}")
    assert status == 200
    complaints = _complaints(notes)
    assert (complaints.pop(SILENCE, None) is not None) == (route == "plain")
    assert complaints == {}
    found = {note["note_id"] for note in notes}
    assert {"INM_304", "IMS_304"} <= found, "both validators are honoured"
    if CONTENTS.get(name) != b"":
        assert "RANGE_CORRECT" in found, "and so are ranges"


@pytest.mark.parametrize(("name", "status"), [("none.css", 404), (".env", 404), ("folder", 301), ("site.css/", 404)])
def test_a_linter_finds_nothing_wrong_with_an_answer_that_is_no_file(
    files: FilesGateway, name: str, status: int
) -> None:
    answered, notes = _lint(files, f"/cached/{name}")
    assert answered == status
    assert _complaints(notes) == {}
