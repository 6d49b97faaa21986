"""From a fresh clone to the course's own environment, with nothing but the standard library.

`ensure` returns only in an interpreter that has this repository installed. Anywhere else it makes `.venv`, installs
the project there, writes a stamp that says what was installed, and starts the same command again in it.
"""

import contextlib
import errno
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import urlparse
from urllib.request import url2pathname

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTION = "systematic-course"
GB = 1000**3
STAMP = "course.json"
LOG = "install.log"
STARTED = "SYSTEMATIC_STARTED_IN"
USAGE = """\
python3 -m grader lab     make the course's environment in .venv (the first time: a few minutes), open JupyterLab
python3 -m grader test    the same, then run the whole test suite
Once the environment is there, python3 -m grader --help shows all commands."""

# where these point decides what an interpreter imports or where pip puts things; in the course's environment neither
# may come from outside. What says where packages come from (indexes, proxies, certificates) is left alone.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_NO_DEPS",
           "PIP_DRY_RUN", "PIP_REQUIRE_HASHES", "PIP_REQUIREMENT", "PIP_EDITABLE", "PIP_QUIET")


class CannotStart(Exception):
    """What stands in the way of a working environment, and its fix, in words for the person who typed the command."""


class Stamp(NamedTuple):
    """What was installed into `.venv`: pyproject.toml's hash, Python's version, the extras, the folder it was for."""

    pyproject: str
    python: str
    extras: tuple[str, ...]
    root: str


class Python(NamedTuple):
    """What the interpreter of an environment answers: its version, whether it has pip, what is installed from where."""

    version: str
    pip: bool
    repository: str | None


def ensure(arguments: Sequence[str], root: Path = ROOT) -> None:
    """Return if this interpreter can run the course; otherwise start the command again in one that can, and end.

    arguments  what stands behind `python3 -m grader`; `test` brings the extra of that name along

    Ends the program with exit code 1 and a sentence with the fix when no environment can be made, and with 130 after
    Ctrl-C; the next call goes on from there.
    """
    extras = ("test",) if list(arguments[:1]) == ["test"] else ()
    started_in = os.environ.pop(STARTED, None)
    try:
        if editable_root() == root and (started_in or _current(root, extras)):
            return
        if started_in:
            raise CannotStart(f"{root / '.venv'} was installed, but its Python does not find the course in {root}. "
                              f"Fix: delete {root / '.venv'} and type the same command again.")
        if (not arguments or {*arguments} & {"-h", "--help"}) and not _ready(root, extras):
            print(USAGE)
            sys.exit(0 if arguments else 2)
        prepare(root, extras)
        _start_again(arguments, root)
    except CannotStart as problem:
        sys.stdout.flush()
        sys.exit(f"{problem}")
    except KeyboardInterrupt:
        print("\nInterrupted. Nothing is broken: the same command goes on from here.", file=sys.stderr)
        sys.exit(130)


def prepare(root: Path, extras: Sequence[str]) -> None:
    """Make `.venv` under `root` hold the project and these extras, doing only what is left to do.

    Raises CannotStart when that is impossible.
    """
    venv = root / ".venv"
    if _ready(root, extras):
        return
    with _alone(root):
        stamp = read_stamp(venv)
        extras = tuple(sorted({*extras, *(stamp.extras if stamp else ())}))
        if _ready(root, extras):
            return      # another start did the work while this one waited
        reason = _unusable(venv, stamp, root, ask(python_of(venv)))
        _demand_writable(venv if venv.is_dir() else root)
        _demand_space(venv)
        if reason:
            print(f"{reason}: making .venv anew.", flush=True)
        elif stamp:
            print("Bringing .venv up to date: pyproject.toml or what is wanted of it has changed.", flush=True)
        elif venv.exists():
            print(f"Going on with the installation into {venv}.", flush=True)
        else:
            print(f"First time: installing the course and PyTorch into {venv}. That is about 2 GB (more where pip "
                  "chooses PyTorch's CUDA build) and takes a few minutes.", flush=True)
        began = time.monotonic()
        if reason or not venv.exists():
            _make_venv(venv)
        _install(root, extras)
        write_stamp(venv, wanted(root, extras))
        print(f"Installed in {time.monotonic() - began:.0f} s.", flush=True)


def editable_root() -> Path | None:
    """The repository that this interpreter's course is installed from, editable; None where it is not."""
    try:
        record = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    source = json.loads(record or "{}")
    if not source.get("dir_info", {}).get("editable"):
        return None
    return Path(url2pathname(urlparse(source["url"]).path)).resolve()


def wanted(root: Path, extras: Sequence[str]) -> Stamp:
    """The stamp that `.venv` has once these extras of today's pyproject.toml are installed with its Python."""
    answer = ask(python_of(root / ".venv"))
    return Stamp(pyproject_hash(root), answer.version if answer else "", tuple(sorted(extras)), str(root))


def pyproject_hash(root: Path) -> str:
    return hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest()


def read_stamp(venv: Path) -> Stamp | None:
    """The stamp of an environment; None where no installation has come to its end."""
    try:
        told = json.loads((venv / STAMP).read_text(encoding="utf-8"))
        return Stamp(told["pyproject"], told["python"], tuple(told["extras"]), told["root"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(venv: Path, stamp: Stamp) -> None:
    # imported here because this file also runs on its own, inside an environment that is still empty
    from solutions.files import write_whole
    write_whole(venv / STAMP, json.dumps(stamp._asdict(), indent=1) + "\n")


def python_of(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def ask(python: Path) -> Python | None:
    """Let an interpreter say what it is; None when it does not run."""
    try:
        done = subprocess.run([python, "-I", __file__], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60)
        return Python(**json.loads(done.stdout))
    except (OSError, ValueError, TypeError, subprocess.TimeoutExpired):
        return None


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables without those that would mix another installation into the course's own."""
    return {**{name: value for name, value in environment.items() if name not in FOREIGN}, "PIP_USER": "0"}


def _current(root: Path, extras: Sequence[str]) -> bool:
    """Whether the environment we run in can stay as it is; only the `.venv` that we stamped is ours to change."""
    venv = root / ".venv"
    stamp = read_stamp(venv)
    if stamp is None or Path(sys.prefix).resolve() != venv.resolve():
        return True
    return _covers(stamp, root, extras)


def _ready(root: Path, extras: Sequence[str]) -> bool:
    venv = root / ".venv"
    stamp = read_stamp(venv)
    if stamp is None or not _covers(stamp, root, extras):
        return False
    answer = ask(python_of(venv))
    return _unusable(venv, stamp, root, answer) is None and answer.repository == str(root)


def _covers(stamp: Stamp, root: Path, extras: Sequence[str]) -> bool:
    return stamp.pyproject == pyproject_hash(root) and {*extras} <= {*stamp.extras}


def _unusable(venv: Path, stamp: Stamp | None, root: Path, answer: Python | None) -> str | None:
    """Why an environment must be made anew, in words; None when it can be used, continued, or is not there yet."""
    from grader.__main__ import HIGHEST, LOWEST
    if not venv.is_dir():
        if os.path.lexists(venv):
            raise CannotStart(f"{venv} is a file or a link to nowhere, and the course makes a folder of that name. "
                              f"Fix: rm {venv}")
        return None
    if answer is None:
        return f"The Python of {venv} does not run any more"
    if stamp and stamp.python != answer.version:
        return f"{venv} was made with Python {stamp.python}, and its Python is now {answer.version}"
    if not LOWEST <= tuple(int(part) for part in answer.version.split(".")) <= HIGHEST:
        return f"{venv} has Python {answer.version}, which cannot run the course"
    if not answer.pip:
        return f"{venv} has no pip"
    if stamp and stamp.root != str(root):
        return f"This folder was {stamp.root} when .venv was made, and its commands still point there"
    return None


def _make_venv(venv: Path) -> None:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotStart(f"This Python ({sys.executable}) comes without its module {missing[0]}, which makes "
                          f"environments. {_venv_fix()}")
    code, lines = _run([sys.executable, "-m", "venv", "--clear", str(venv)], cwd=venv.parent, log=None)
    if code:
        raise CannotStart(f"{sys.executable} -m venv could not make {venv}. Its last lines:\n{_quoted(lines)}\n"
                          f"{_venv_fix()}")


def _venv_fix() -> str:
    if shutil.which("apt-get"):
        sudo = "" if os.name != "nt" and os.geteuid() == 0 else "sudo "
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"Fix: {sudo}apt install python{version}-venv, then type the same command again."
    return ("Fix: install your system's package with Python's venv and ensurepip modules, or a Python from python.org, "
            "then type the same command again.")


def _install(root: Path, extras: Sequence[str]) -> None:
    venv = root / ".venv"
    project = f".[{','.join(extras)}]" if extras else "."
    command = [str(python_of(venv)), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check",
               "--progress-bar", "off", "-e", project]
    with _room_to_unpack(venv) as temporary:
        code, lines = _run(command, cwd=root, log=venv / LOG, temporary=temporary)
    if code:
        raise CannotStart(f"pip could not install the course. Its last lines:\n{_quoted(lines)}\n{_pip_fix(lines)}\n"
                          f"All that pip said is in {venv / LOG}.")


def _pip_fix(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    if "No space left" in text:
        return "Fix: free some space on the disk, then type the same command again; it goes on from here."
    torch = "No matching distribution found for torch" in text
    offline = ("ConnectionError", "Retrying", "name resolution", "SSLError", "ProxyError", "timed out")
    if any(word in text for word in offline) or ("from versions: none" in text and not torch):
        return ("pip reached no package index. Fix: check the network (and the proxy, where there is one), then type "
                "the same command again; it goes on from here.")
    if torch:
        return (f"PyTorch has builds for 64-bit Linux and Windows and for macOS 14 or newer on Apple silicon; this is "
                f"{platform.platform()}. Fix: use a 64-bit Python on such a system.")
    return "Fix what the lines above name, then type the same command again; it goes on from here."


def _quoted(lines: Sequence[str], last: int = 12) -> str:
    return "\n".join(f"    {line}" for line in lines[-last:])


def _demand_writable(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        if problem.errno == errno.ENOSPC:
            return      # said better, with figures, by _demand_space
        raise CannotStart(f"{folder} cannot be written ({problem.strerror}), and the course makes its environment "
                          "there, in .venv. Fix: clone the repository into a folder of your own, for instance "
                          "git clone the-repository ~/systematic") from None


def _demand_space(venv: Path) -> None:
    """Refuse to begin what the disk cannot hold: 2 GB installed, and 2 GB of downloads on the way."""
    folder = venv if venv.exists() else venv.parent
    there = sum(file.lstat().st_size for file in venv.rglob("*") if file.is_file()) if venv.exists() else 0
    needed = max(4 * GB - 2 * there, GB // 2)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CannotStart(f"Installing the course needs about {needed / GB:.1f} GB, and {free / GB:.1f} GB are free in "
                          f"{folder}. Fix: free some space, or move the repository to a larger disk.")


@contextlib.contextmanager
def _room_to_unpack(venv: Path) -> Iterator[Path | None]:
    """A folder for pip's downloads where the system's temporary folder, often a piece of memory, is too small."""
    if shutil.disk_usage(tempfile.gettempdir()).free >= 2 * GB:
        yield None
        return
    folder = venv / "tmp"
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let one start at a time install; a second one waits for it, and a killed one leaves nothing locked."""
    try:
        import fcntl
        descriptor = os.open(root, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        # a network file system may know no locks: then two starts at once are the user's to avoid
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("Another start is installing the course: waiting for it.", flush=True)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _run(command: Sequence[str], cwd: Path, log: Path | None,
         temporary: Path | None = None) -> tuple[int, list[str]]:
    """Run a command, showing its last line as it goes; returns its exit code and its lines.

    A Ctrl-C or a SIGTERM here ends the command and all it started before it is passed on.
    """
    lines: list[str] = []
    arriving: queue.Queue[str | None] = queue.Queue()
    environment = clean(os.environ) | ({"TMPDIR": str(temporary)} if temporary else {})
    child = subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                             start_new_session=True)

    def read() -> None:
        for line in child.stdout:
            arriving.put(line.rstrip())
        arriving.put(None)

    with _terminated_as_interrupted(), contextlib.ExitStack() as files:
        try:
            file = files.enter_context(open(log, "w", encoding="utf-8")) if log else None
            threading.Thread(target=read, daemon=True).start()
            with _Ticker() as ticker:
                while True:
                    try:
                        line = arriving.get(timeout=0.5)
                    except queue.Empty:
                        ticker.show()
                        continue
                    if line is None:
                        break
                    lines.append(line)
                    ticker.show(line)
                    if file:
                        print(line, file=file, flush=True)
            return child.wait(), lines
        except BaseException:
            _end(child)
            raise


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    def stop(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(child: subprocess.Popen) -> None:
    """End a command and all it started: first asked, so that it can clean up, then killed."""
    if os.name == "nt":
        child.terminate()
        return
    try:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            os.killpg(child.pid, signal.SIGINT)
            child.wait(timeout=5)
    finally:
        # also when a second Ctrl-C comes meanwhile; and what the command started may outlive it
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()


class _Ticker:
    """On a terminal one line with the seconds and what is going on; in a log the lines themselves."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.line = ""
        self.terminal = sys.stdout.isatty()

    def __enter__(self) -> "_Ticker":
        return self

    def __exit__(self, *_: object) -> None:
        self._rewrite("")

    def show(self, line: str = "") -> None:
        self.line = line.strip() or self.line
        if self.terminal:
            self._rewrite(f"  {time.monotonic() - self.began:4.0f} s  {self.line}")
        elif line and "Requirement already satisfied" not in line:
            print(f"  {line}", flush=True)

    def _rewrite(self, text: str) -> None:
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:width]:<{width}}\r", end="", flush=True)


def _start_again(arguments: Sequence[str], root: Path) -> NoReturn:
    python = str(python_of(root / ".venv"))
    command = [python, "-m", "grader", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment[STARTED] = str(root)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":
        sys.exit(subprocess.run(command, env=environment).returncode)
    os.execve(python, command, environment)


def _answer() -> str:
    repository = editable_root()
    return json.dumps({"version": f"{sys.version_info.major}.{sys.version_info.minor}",
                       "pip": importlib.util.find_spec("pip") is not None,
                       "repository": str(repository) if repository else None})


if __name__ == "__main__":
    print(_answer())
