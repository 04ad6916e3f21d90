"""A headless Chromium, asked over its DevTools protocol to run scripts in pages of the gateway."""

import base64
import hashlib
import itertools
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from websockets.sync.client import ClientConnection, connect

from support.gateway import Gateway
from support.processes import Daemon
from support.waiting import wait_until

NAMES = ("chromium", "chromium-headless-shell", "google-chrome")
PATIENCE_SECS = 30


def executable() -> str | None:
    """Where the browser is, if it is installed."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass
class Browser:
    """One browser that takes the certificate of one gateway for good, and one page of it."""

    gateway: Gateway
    directory: Path
    _daemon: Daemon = field(init=False)
    _page: ClientConnection = field(init=False)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count, init=False)

    def __post_init__(self) -> None:
        program = executable()
        assert program is not None, "no browser is installed"
        argv = [
            program,
            "--headless",
            "--no-first-run",
            "--disable-gpu",
            "--disable-background-networking",
            "--remote-debugging-port=0",
            "--remote-allow-origins=*",
            f"--user-data-dir={self.directory / 'profile'}",
            f"--ignore-certificate-errors-spki-list={_pin(self.gateway)}",
            # The sandbox wants a user who is not root; the pages are our own.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "about:blank",
        ]
        home = {"HOME": str(self.directory)}
        self._daemon = Daemon("the browser", argv, self.directory / "browser.log", home, self.directory, family=True)
        try:
            self._page = self._attach()
        except BaseException:
            self._daemon.stop()
            raise

    def stop(self) -> None:
        """Ends it."""
        self._page.close()
        self._daemon.stop()

    def visit(self, path: str) -> None:
        """Opens a page of the gateway, and returns once it is there."""
        self._ask("Page.navigate", url=f"{self.gateway.url}{path}")
        wait_until(lambda: self.run("document.readyState + location.pathname") == f"complete{path}", f"page {path}")

    def run(self, script: str) -> Any:
        """What an expression of JavaScript comes to; a promise is waited for."""
        answer = self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def _attach(self) -> ClientConnection:
        port_file = self.directory / "profile" / "DevToolsActivePort"
        lines = wait_until(lambda: port_file.read_text().split() if port_file.exists() else [], "the browser", 60)
        root = f"ws://127.0.0.1:{lines[0]}"
        with connect(f"{root}{lines[1]}", proxy=None, max_size=None, legacy=True) as whole:
            whole.send(json.dumps({"id": 0, "method": "Target.getTargets"}))
            targets = json.loads(whole.recv(timeout=PATIENCE_SECS))["result"]["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        return connect(f"{root}/devtools/page/{page}", proxy=None, max_size=None, legacy=True)

    def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._page.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._page.recv(timeout=PATIENCE_SECS))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]


def _pin(gateway: Gateway) -> str:
    """How Chromium knows a certificate: by the digest of its public key."""
    certificate = x509.load_pem_x509_certificate((gateway.directory / "tls.crt").read_bytes())
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()
