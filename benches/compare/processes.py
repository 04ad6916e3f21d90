"""Processes started here: pinned to processors, accounted for as a tree, ended by their own ids."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

READY_SECS = 15.0
STOP_SECS = 5.0
GLANCE_SECS = 0.02
LOG_TAIL_CHARS = 1500


class Failed(Exception):
    """A server or a client did not do its part; the message says which and shows what it wrote."""


class Daemon:
    """One server and its children. A context: leaving it ends them."""

    def __init__(self, name: str, argv: Sequence[str | Path], log: Path, cpus: str, env: Mapping[str, str]) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["taskset", "-c", cpus, *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,  # a group of its own, so that nobody else's process can be in it
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_listening(self, ports: Sequence[int]) -> None:
        """Returns once every port accepts; fails when the process ends first or takes too long."""
        deadline = time.monotonic() + READY_SECS
        while not all(map(_accepts, ports)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{self.name} does not listen:\n{self.tail()}")
            time.sleep(GLANCE_SECS)

    def cpu_secs(self) -> float:
        """Processor time of the tree so far, user and system, in seconds."""
        ticks = 0
        for pid in self._tree():
            fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12]) if fields else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    def pss_bytes(self) -> int:
        """Proportional set size of the tree: pages that two processes share count once."""
        lines = (line for pid in self._tree() for line in _read(f"/proc/{pid}/smaps_rollup").splitlines())
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))

    def stop(self) -> None:
        """Ends the tree: asks its head, and after a while ends the whole group."""
        try:
            self._process.terminate()
            self._process.wait(STOP_SECS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def tail(self) -> str:
        """The end of what the server wrote."""
        return self._log.read_text(errors="replace")[-LOG_TAIL_CHARS:]

    def _tree(self) -> list[int]:
        found, todo = [], [self._process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for thread in _list(f"/proc/{pid}/task"):
                todo += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
        return found


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(opened.getsockname()[1]) for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def cpu_numbers(cpus: str) -> set[int]:
    """The processors that a list such as `0,2-3` names."""
    spans = (span.partition("-") for span in cpus.split(","))
    return {cpu for first, _, last in spans for cpu in range(int(first), int(last or first) + 1)}


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _read(path: str) -> str:
    """A file of /proc; empty when its process has gone."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
