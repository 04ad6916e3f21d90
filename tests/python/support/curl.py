"""curl, where httpx cannot follow HTTP/2: after a GOAWAY, and when the answer comes before the body is sent."""

import subprocess
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from support.gateway import CLIENT_ADDRESS, Gateway

TIMEOUT_SECS = 60


class Curl:
    """One request in a process of its own, whose response is read line by line while it arrives."""

    def __init__(self, gateway: Gateway, path: str, headers: Mapping[str, str], *options: str) -> None:
        fields = [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]
        argv = ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", str(TIMEOUT_SECS)]
        argv += ["--interface", CLIENT_ADDRESS, "--cacert", str(gateway.authority.path)]
        argv += ["--write-out", "\nHTTP/%{http_version} %{http_code}\n"]
        self._process = subprocess.Popen(
            [*argv, *fields, *options, f"{gateway.url}{path}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
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

    def verdict(self) -> tuple[str, int]:
        """Version and status, and curl's exit code, which is 0 if the response was complete."""
        assert self._process.stdout is not None
        rest = self._process.stdout.read()
        return rest.rstrip("\n").rpartition("\n")[2], self._process.wait(TIMEOUT_SECS)
