"""The Django project made ready to run: database migrated, people created, static files collected."""

import os
import secrets
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support.signing_key import SigningKey

PROJECT = Path(__file__).resolve().parent.parent / "project"
PASSWORD = "a long enough password"


@dataclass(frozen=True)
class Site:
    """One deployment of the project: its directory and its secret."""

    directory: Path
    secret: str
    signing_key: SigningKey | None = None
    """What simplejwt signs with; without one it is the secret."""

    @classmethod
    def deploy(cls, directory: Path) -> "Site":
        """Does what a deployment does before the servers start."""
        site = cls(directory, secrets.token_urlsafe(48))
        (directory / "gates").mkdir()
        site.media_root.mkdir()
        site._make_identity_key()
        site._manage("migrate", "--verbosity", "0")
        site._manage("seed", PASSWORD)
        site._manage("collectstatic", "--no-input", "--verbosity", "0")
        return site

    def signing_with(self, key: SigningKey) -> "Site":
        """The same deployment with another key for its tokens, for the servers started from now on."""
        return replace(self, signing_key=key)

    @property
    def static_root(self) -> Path:
        """Where `collectstatic` put everything."""
        return self.directory / "static"

    @property
    def media_root(self) -> Path:
        """Where people's uploads are."""
        return self.directory / "media"

    @property
    def identity_key(self) -> Path:
        """The private key with which the gateway vouches for requests."""
        return self.directory / "identity.pem"

    @property
    def identity_public_key(self) -> Path:
        """What Django knows of it."""
        return self.directory / "identity.pub.pem"

    @cached_property
    def environment(self) -> dict[str, str]:
        """What the settings read."""
        return {
            "DJANGO_SETTINGS_MODULE": "backend.settings",
            "SECRET_KEY": self.secret,
            "DATABASE_PATH": str(self.directory / "db.sqlite3"),
            "STATIC_ROOT": str(self.static_root),
            "MEDIA_ROOT": str(self.media_root),
            "GATE_DIR": str(self.directory / "gates"),
            "CACHE_DIR": str(self.directory / "cache"),
            "GATEWAY_KEY": str(self.identity_public_key),
            "PYTHONUNBUFFERED": "1",
            **(self.signing_key.environment if self.signing_key else {}),
        }

    def _make_identity_key(self) -> None:
        key, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
        plain = serialization.NoEncryption()
        self.identity_key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.identity_public_key.write_bytes(public)

    def _manage(self, *words: str) -> None:
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=PROJECT,
            env={"PATH": os.environ["PATH"], **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"manage.py {words[0]} failed:\n{done.stdout}{done.stderr}"
