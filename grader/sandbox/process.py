"""A process of its own for student code: started fresh, timed, and started again when it dies."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any

from grader.names import CourseError
from grader.sandbox import codec

TIMEOUT = 30.0      # seconds for one request; a check's slowest is far under one
STARTING = 180.0    # seconds for the interpreter to start and import torch, which is nobody's endless loop


class Lost(CourseError):
    """The process that ran the student's code ended, or (late) did not answer in time; the message says how."""

    def __init__(self, how: str, late: bool = False) -> None:
        super().__init__(how)
        self.late = late


class Process:
    """Runs a worker in a fresh interpreter. `answer` is a transport for the judge; use as a context manager.

    cells    the notebook's code cells, name and source each, whose definitions are made first
    timeout  seconds the process may take for one request before it is killed
    """

    def __init__(self, cells: list[dict[str, str]], timeout: float = TIMEOUT) -> None:
        self.cells, self.timeout = cells, timeout
        self.defined: list[dict[str, Any]] = []         # what came of each cell, once started
        self._lost: dict[int, dict[str, Any]] = {}      # cells that ended the process, by position
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def define(self, cells: list[dict[str, str]]) -> list[dict[str, Any]]:
        """Start over with other cells: a fresh namespace in the same interpreter. Returns what came of each."""
        self.cells, self._lost, self.defined = cells, {}, []
        if self._process is None:
            return self.start()
        self._ask(codec.pack({"op": "reset"}))
        return self._define()

    def start(self) -> list[dict[str, Any]]:
        """Start the interpreter when it is not running. Returns, cell by cell, {"problems": [...], "seconds": s}.

        A cell that ends the process or never returns is left out when the others are defined anew.
        """
        if self._process is None:
            self._errors = tempfile.TemporaryFile()     # noqa: SIM115  (closed with the process)
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "grader.sandbox.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=self._errors, env=environment, start_new_session=True)
            self._ask(codec.pack({"op": "reset"}), STARTING)
            self._define()
        return self.defined

    def _define(self) -> list[dict[str, Any]]:
        self.defined = []
        for index, cell in enumerate(self.cells):
            if index not in self._lost:
                request = {"op": "define", "name": cell["name"], "source": cell["source"],
                           "exercise": cell.get("exercise") is not None}
                try:
                    self.defined.append(codec.unpack(self._ask(codec.pack(request)))["value"])
                    continue
                except Lost as lost:
                    self._lost[index] = {"type": "Lost", "text": str(lost), "lines": []}
                    return self.start()
            self.defined.append({"problems": [self._lost[index]], "skipped": {}, "seconds": 0.0})
        return self.defined

    def answer(self, message: bytes) -> bytes:
        """One request to the worker. Raises Lost when it dies or does not answer in time; the next call restarts it."""
        self.start()
        return self._ask(message)

    def _ask(self, message: bytes, timeout: float | None = None) -> bytes:
        process, late, timeout = self._process, threading.Event(), timeout or self.timeout
        timer = threading.Timer(timeout, lambda: (late.set(), _kill(process)))
        timer.start()
        try:
            codec.write_message(process.stdin, message)
            reply = codec.read_message(process.stdout)
        except codec.CodecError as error:
            self.close()
            raise Lost(f"your code's answer could not be read: {error}") from None
        except OSError:
            reply = None
        finally:
            timer.cancel()
        if reply is None:
            how = self._how_it_ended()
            if late.is_set():
                how = f"your code did not return within {timeout:g} seconds; is there a loop that never ends?"
            raise Lost(how, late.is_set())
        return reply

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)           # its own end, before ours is put upon it
        code = self._process.poll()
        self.close()
        if code is None:
            return "your code closed the channel it answers by"
        if code < 0:
            return f"the process that ran your code was ended by {signal.Signals(-code).name}"
        return f"your code ended its own process (exit code {code})"

    def close(self) -> None:
        """End the process and everything it started."""
        if self._process is not None:
            _kill(self._process)
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._errors):
                with contextlib.suppress(OSError):
                    stream.close()
            self._process = None


def _kill(process: subprocess.Popen) -> None:
    try:
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except (ProcessLookupError, PermissionError):
        process.kill()
