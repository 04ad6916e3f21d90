"""The peers that are written for Node.js: one long-lived process each, asked by lines of JSON."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.gateway import REPOSITORY
from support.processes import Daemon

SCRIPTS = REPOSITORY / "tests" / "python" / "node"
LINES = "lines.mjs"
"""How every script is asked and answers."""


def modules() -> Path:
    """Where `npm ci` has put what the scripts import: `PORTCULLIS_NODE`, or what tests/run makes."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    path = Path(os.environ.get("PORTCULLIS_NODE", REPOSITORY / target / "node"))
    assert (path / "node_modules").is_dir(), f"no packages at {path}: tests/run installs them"
    return path.resolve()


class Peer:
    """One script, which answers each line on its standard input with one line on its standard output."""

    def __init__(self, script: str, directory: Path, environment: Mapping[str, str]) -> None:
        # An ES module looks for packages beside itself, and the source tree has none.
        copied = directory / script
        for name in (script, LINES):
            shutil.copyfile(SCRIPTS / name, directory / name)
        (directory / "node_modules").unlink(missing_ok=True)
        (directory / "node_modules").symlink_to(modules() / "node_modules")
        argv: list[str | Path] = ["node", copied]
        log = directory / f"{copied.stem}.log"
        self.daemon = Daemon(script, argv, log, environment, directory, dialogue=True)

    def ask(self, **question: Any) -> Any:
        """The answer to one question; a peer that can't answer fails the story."""
        answer = json.loads(self.daemon.exchange(json.dumps(question)))
        assert "error" not in answer, f"{self.daemon.name} was asked {question} and says {answer['error']}"
        return answer["answer"]

    def stop(self) -> None:
        """Ends the process."""
        self.daemon.stop()
