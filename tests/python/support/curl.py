"""curl as a second opinion: a client that is not httpx, read line by line while it runs."""

import subprocess
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from support.gateway import CLIENT_ADDRESS, Gateway

TIMEOUT_SECS = 60
VERDICT = "HTTP/%{http_version} %{http_code}\n"


class Curl:
    """One GET in a process of its own; the last line it prints is version and status."""

    def __init__(self, gateway: Gateway, path: str, headers: Mapping[str, str], version: str) -> None:
        argv = ["curl", "--silent", "--show-error", "--no-buffer", version, "--interface", CLIENT_ADDRESS]
        argv += [
            "--max-time",
            str(TIMEOUT_SECS),
            "--cacert",
            str(gateway.authority.path),
            "--write-out",
            VERDICT,
        ]
        for name, value in headers.items():
            argv += ["--header", f"{name}: {value}"]
        self._process = subprocess.Popen(
            [*argv, f"{gateway.url}{path}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def line(self) -> str:
        """The next line of the response, as soon as it has arrived."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def exit_code(self) -> int:
        """0 if the response was complete."""
        return self._process.wait(TIMEOUT_SECS)
