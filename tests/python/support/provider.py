"""A real OpenID provider, `oidc-provider`, which a story may stop, start again in its place, and have rotate keys."""

import base64
import hashlib
import json
import re
import secrets
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
from joserfc.jwk import ECKey, RSAKey

from support.certificates import Authority
from support.node import Peer
from support.waiting import accepts, free_ports

AUDIENCE = "api"
DISCOVERY, KEYS, INTROSPECTION = "/.well-known/openid-configuration", "/jwks", "/token/introspection"
REDIRECT_URI = "https://site.example/signed-in"
FORM = re.compile(r'action="([^"]+)"')

Json = dict[str, Any]


def new_ec_key() -> Json:
    """A private key for ES256 as JWK, with a `kid` of its own."""
    key: Json = ECKey.generate_key("P-256", {"kid": secrets.token_hex(8), "use": "sig", "alg": "ES256"}).as_dict(
        private=True
    )
    return key


def new_key() -> Json:
    """A private RSA key as JWK, with a `kid` of its own."""
    key: Json = RSAKey.generate_key(2048, {"kid": secrets.token_hex(8), "use": "sig", "alg": "RS256"}).as_dict(
        private=True
    )
    return key


@dataclass
class Provider:
    """One provider process, its keys and its clients."""

    directory: Path
    authority: Authority | None = None
    """Who signs its certificate; without one it speaks plain HTTP."""
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    keys: list[Json] = field(default_factory=lambda: [new_key()])
    """The first one signs; all are published."""
    port: int = field(default_factory=lambda: free_ports(1)[0])
    _peer: Peer | None = field(default=None, init=False)

    @property
    def host(self) -> str:
        """Where it listens."""
        return f"localhost:{self.port}" if self.authority else f"127.0.0.1:{self.port}"

    @property
    def issuer(self) -> str:
        """What it calls itself."""
        return f"{'https' if self.authority else 'http'}://{self.host}"

    # The process.

    def start(self) -> None:
        """Starts it and waits until it accepts connections."""
        settings: Json = {
            "port": self.port,
            "issuer": self.issuer,
            "keys": self.keys,
            "clientSecret": self.client_secret,
            "redirectUri": REDIRECT_URI,
        }
        if self.authority:
            certificate = self.authority.issue()
            settings["tls"] = {"cert": certificate.chain.decode(), "key": certificate.key.decode()}
        self._peer = Peer("provider.mjs", self.directory, {"PROVIDER": json.dumps(settings)})
        self._peer.daemon.wait_ready(lambda: accepts(self.port))

    def stop(self) -> None:
        """Ends it; its JWTs stay good, its opaque tokens are forgotten."""
        if self._peer is not None:
            self._peer.stop()

    def freeze(self) -> None:
        """It accepts connections from now on, and says nothing."""
        self.peer.daemon.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers again."""
        self.peer.daemon.signal(signal.SIGCONT)

    @property
    def peer(self) -> Peer:
        """The running process."""
        assert self._peer is not None, "the provider was not started"
        return self._peer

    def asked(self, path: str) -> int:
        """How often that path was asked for since the last start."""
        counts: dict[str, int] = self.peer.ask(operation="asked")
        return counts.get(path, 0)

    def publish(self, keys: Sequence[Json]) -> None:
        """Signs with the first of these keys from now on, and publishes no others."""
        self.keys = list(keys)
        self.peer.ask(operation="rotate", keys=self.keys)

    # What its clients do.

    def token(self, form: str = "jwt", scope: str = "read") -> str:
        """An access token for a machine, by its own credentials."""
        said = {"grant_type": "client_credentials", "resource": f"urn:api:{form}", "scope": scope}
        return str(self._post("/token", "service", said)["access_token"])

    def revoke(self, token: str, client_id: str = "service") -> None:
        """The client that has the token gives it up (RFC 7009)."""
        with self._client() as client:
            answer = client.post("/token/revocation", data={"token": token}, auth=(client_id, self.client_secret))
        assert answer.status_code == 200, answer.text

    def log_in(self, name: str, form: str = "jwt") -> Json:
        """What a browser and a site get by the authorization-code flow with PKCE: the answer of the token endpoint."""
        verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        question = {
            "client_id": "site",
            "response_type": "code",
            "redirect_uri": REDIRECT_URI,
            "scope": "openid read",
            "resource": f"urn:api:{form}",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "state": secrets.token_hex(8),
        }
        with self._client() as browser:
            page = self._follow(browser, browser.get("/auth", params=question))
            page = self._submit(browser, page, prompt="login", login=name, password="any")
            arrived = self._submit(browser, page, prompt="consent")
        where = urlsplit(str(arrived.headers["location"]))
        assert arrived.headers["location"].startswith(REDIRECT_URI), arrived.headers["location"]
        answer = parse_qs(where.query)
        assert answer["state"] == [question["state"]], answer
        said = {
            "grant_type": "authorization_code",
            "code": answer["code"][0],
            "redirect_uri": REDIRECT_URI,
            "code_verifier": verifier,
        }
        return self._post("/token", "site", said)

    def _submit(self, browser: httpx.Client, page: httpx.Response, **fields: str) -> httpx.Response:
        form = FORM.search(page.text)
        assert form is not None, page.text
        return self._follow(browser, browser.post(form[1], data=fields))

    def _follow(self, browser: httpx.Client, answer: httpx.Response) -> httpx.Response:
        """As far as the provider's own pages lead."""
        while answer.is_redirect and not answer.headers["location"].startswith(REDIRECT_URI):
            answer = browser.get(urljoin(str(answer.url), answer.headers["location"]))
        assert answer.is_redirect or answer.status_code == 200, answer.text
        return answer

    def _post(self, path: str, client_id: str, said: dict[str, str]) -> Json:
        with self._client() as client:
            answer = client.post(path, data=said, auth=(client_id, self.client_secret))
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body

    def _client(self) -> httpx.Client:
        verify = self.authority.trust() if self.authority else False
        return httpx.Client(base_url=self.issuer, verify=verify, timeout=20, trust_env=False)
