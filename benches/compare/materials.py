"""Keys, tokens, the certificate and the static files: made once, used by every server alike."""

import hashlib
import os
import shutil
import time
from pathlib import Path

ISSUER, AUDIENCE = "https://issuer.test/", "api"
TOKEN_SECS = 7 * 86_400
FRESH_SECS = 6 * 86_400
"""Materials older than this are made anew: their tokens expire."""
STATIC_FILES = {"1k.css": 1 << 10, "10k.js": 10 << 10, "100k.png": 100 << 10, "10m.bin": 10 << 20}


def ensure(scratch: Path) -> Path:
    """The directory of the materials, made anew when it is missing, old, or made by another version of this code."""
    directory = scratch / "materials"
    stamp, wanted = directory / "stamp", _digest()
    fresh = stamp.is_file() and stamp.read_text() == wanted and time.time() - stamp.stat().st_mtime < FRESH_SECS
    if not fresh:
        shutil.rmtree(directory, ignore_errors=True)
        _make(directory)
        stamp.write_text(wanted)
    return directory


def token(directory: Path, name: str) -> str:
    """The first token of a file."""
    with (directory / f"{name}.tokens").open() as lines:
        return lines.readline().strip()


def _make(directory: Path) -> None:
    import issuer  # only here: `--help` must not need its package

    (directory / "static").mkdir(parents=True)
    for name, size in STATIC_FILES.items():
        (directory / "static" / name).write_bytes(os.urandom(size // 2).hex().encode())
    issuer.write_certificate(directory)
    issuer.write_keys_and_tokens(directory, ISSUER, AUDIENCE, TOKEN_SECS)


def _digest() -> str:
    here = Path(__file__)
    return hashlib.sha256(here.read_bytes() + here.with_name("issuer.py").read_bytes()).hexdigest()
