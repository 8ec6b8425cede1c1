"""Processes of a test: each has a log file, and all of them end when the test does."""

import os
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

from .wait import Hopeless

# The kernel ends the process if the test runner dies before it can.
ALSO_IF_WE_DIE = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


def free_port() -> int:
    """A port for programs that cannot choose one themselves. It was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """One process, with its standard output and error in one file."""

    def __init__(self, name: str, command: list[str], folder: Path, env: dict[str, str] | None = None):
        self.name = name
        self.log_file = folder / f"{name}.log"
        self.folder = folder
        with self.log_file.open("ab") as log:
            self.popen = subprocess.Popen(
                [*ALSO_IF_WE_DIE, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={"PATH": os.environ["PATH"], "HOME": str(folder)} | (env or {}),
            )

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def must_run(self) -> None:
        """Ends a wait for this process if it has ended itself."""
        if not self.running:
            raise Hopeless(f"{self.name} has ended:\n{self.log()}")

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self, timeout: float = 10.0) -> int:
        """The exit code."""
        return self.popen.wait(timeout)

    def kill(self) -> None:
        """Ends the process at once, as a crash would."""
        self.popen.kill()
        self.popen.wait()

    def end(self) -> None:
        """Ends the process in whatever way it takes."""
        self.popen.terminate()
        try:
            self.popen.wait(2)
        except subprocess.TimeoutExpired:
            self.kill()


class Processes:
    """Everything that a test has started; ended in reverse order."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.started: list[Process] = []
        self.endings = ExitStack()

    def start(self, name: str, command: list[str], env: dict[str, str] | None = None) -> Process:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        process = Process(name, command, folder, env)
        self.started.append(process)
        self.endings.callback(process.end)
        return process

    def tails(self, lines: int = 25) -> str:
        """The last lines of every log: what a failed test shows."""
        tail = lambda process: "\n".join(process.log().splitlines()[-lines:])  # noqa: E731
        return "\n".join(f"--- {process.log_file}\n{tail(process)}" for process in self.started)

    def end(self) -> None:
        self.endings.close()
