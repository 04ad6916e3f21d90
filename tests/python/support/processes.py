"""Child processes that are ended by their own id, and whose output is shown when a story fails."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import ClassVar

from support.waiting import wait_until

TAIL_CHARS = 6000
STOP_SECS = 20.0


class Daemon:
    """One running child process with its output in a file."""

    running: ClassVar[list["Daemon"]] = []
    """Every daemon not yet stopped, for the report of a failed test."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str],
        cwd: Path,
        dialogue: bool = False,
        family: bool = False,
    ) -> None:
        """With `family`, the processes that this one starts end with it: it may be a script that forgets its child."""
        self.name = name
        self.log = log
        self._family = family
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.PIPE if dialogue else subprocess.DEVNULL,
                stdout=subprocess.PIPE if dialogue else output,
                stderr=output,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **env},
                cwd=cwd,
                start_new_session=family,
            )
        Daemon.running.append(self)

    def exchange(self, line: str) -> str:
        """Writes a line to a process that was started for a dialogue, and reads the line it answers with."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"{self.name} ended instead of answering:\n{self.tail()}"
        return answer.decode()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def wait_ready(self, ready: Callable[[], bool], within: float = 30.0) -> None:
        """Returns once `ready` says so; fails at once, with the log, when the process ends instead."""

        def look() -> bool:
            assert self.alive, f"{self.name} ended with {self._process.returncode}:\n{self.tail()}"
            return ready()

        wait_until(look, f"{self.name} to be ready", within)

    def signal(self, number: Signals) -> None:
        """Sends a signal to this process alone."""
        self._process.send_signal(number)

    def wait_exit(self, within: float = STOP_SECS) -> int:
        """The exit code, once the process has ended by itself."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"{self.name} still runs after {within:g} s:\n{self.tail()}") from late
        self._forget()
        return code

    def stop(self) -> None:
        """Ends the process whatever its state; harmless when it has ended already."""
        if self.alive:
            self._end(SIGTERM)
            try:
                self._process.wait(STOP_SECS)
            except subprocess.TimeoutExpired:
                self._end(SIGKILL)
                self._process.wait(STOP_SECS)
        self._forget()

    def tail(self) -> str:
        """The end of what the process has written."""
        return self.log.read_text(errors="replace")[-TAIL_CHARS:]

    def _end(self, number: Signals) -> None:
        if self._family:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def _forget(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if self in Daemon.running:
            Daemon.running.remove(self)
