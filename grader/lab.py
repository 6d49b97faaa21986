"""JupyterLab in front of a lesson, and the test suite: the two programs that are started for somebody."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

# JupyterLab's own defaults greet a learner with a question about Jupyter news and fifty lines of log. These files
# change defaults only, for this launch only: what somebody chose in JupyterLab or in ~/.jupyter stays.
DEFAULTS = {
    "labconfig/default_setting_overrides.json": json.dumps({
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}),
    "jupyter_server_config.json": json.dumps({"Application": {"log_level": "WARN"}}),
    "nbgrader_config.py": "# nbgrader warns where it finds no file of this name\n",
}


def open_lab(lesson_notebook: Path, root: Path, browser: bool = True, port: int | None = None,
             extra: Sequence[str] = ()) -> int:
    """Run JupyterLab in this environment until it is stopped; returns its exit code.

    lesson_notebook  what it opens at, somewhere under root
    root             the folder its file browser shows
    browser          False only prints the address, for a server
    port             None takes 8888, or the next one that is free
    extra            further options of `jupyter lab`, taken before ours
    """
    with tempfile.TemporaryDirectory(prefix="systematic-lab-") as folder:
        for name, content in DEFAULTS.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
        command = lab_command(lesson_notebook, root, browser, port, extra)
        print(f"JupyterLab opens {lesson_notebook}. Ctrl-C here, twice, stops it.", flush=True)
        if _is_root():
            print("You are root: JupyterLab runs with --allow-root, and what it does it does as root.", flush=True)
        return _in_foreground(command, root, lab_environment(os.environ, Path(folder)))


def lab_command(lesson_notebook: Path, root: Path, browser: bool = True, port: int | None = None,
                extra: Sequence[str] = ()) -> list[str]:
    """The command line of JupyterLab that opens at a notebook.

    Raises ValueError for a notebook outside root, which JupyterLab could not show.
    """
    root, notebook = root.resolve(), lesson_notebook.resolve()
    if not notebook.is_relative_to(root):
        raise ValueError(f"JupyterLab shows what lies under {root}, and the notebook is {notebook}")
    address = quote(f"/lab/tree/{notebook.relative_to(root).as_posix()}")
    options = {"--ServerApp.root_dir": str(root), "--LabApp.default_url": address}
    if port is not None:
        options["--ServerApp.port"] = str(port)
    flags = [] if browser else ["--no-browser"]
    if _is_root():
        flags.append("--allow-root")      # JupyterLab refuses to start otherwise
    if not _has_terminal():
        flags.append("-y")      # nobody could answer whether Ctrl-C was meant
    given = {option.split("=", 1)[0] for option in extra}
    return [sys.executable, "-m", "jupyterlab", *(flag for flag in flags if flag not in given),
            *(f"{name}={value}" for name, value in options.items() if name not in given), *extra]


def lab_environment(environment: Mapping[str, str], defaults: Path) -> dict[str, str]:
    """The environment variables with our defaults behind everybody else's, and with `course` on the path."""
    before = environment.get("JUPYTER_CONFIG_PATH")
    return {**environment,
            "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, [before, str(defaults)])),
            "PATH": os.pathsep.join(filter(None, [str(Path(sys.executable).parent), environment.get("PATH")]))}


def run_tests(root: Path, extra: Sequence[str] = ()) -> int:
    """Run the repository's tests in this environment; returns pytest's exit code.

    extra  options of pytest, for instance ["-m", "slow"] or a path
    """
    if importlib.util.find_spec("pytest") is None:
        print(f"pytest is not installed here. Fix: {sys.executable} -m pip install -e '{root}[test]'", file=sys.stderr)
        return 1
    # one thread in each process: two that want both cores at once are slower than one
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    return _in_foreground([sys.executable, "-m", "pytest", *_side_by_side(extra), *extra], root, environment)


def _side_by_side(extra: Sequence[str]) -> list[str]:
    """Options that run test files on all cores, unless the options given have a say in it."""
    own = any(option.startswith(("-n", "--numprocesses", "--dist", "--pdb")) for option in extra)
    return [] if own or importlib.util.find_spec("xdist") is None else ["-n", str(os.cpu_count()), "--dist", "loadfile"]


def _in_foreground(command: Sequence[str], root: Path, environment: Mapping[str, str]) -> int:
    """Run a program that has the terminal: Ctrl-C is its own to answer, a SIGTERM is passed on to it."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: received.append(number))
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        child = subprocess.Popen(command, cwd=root, env=environment)
        while not _ends_within(child, seconds=0.2):
            while received:
                number = received.pop()
                # a terminal sends Ctrl-C to both of us; a signal sent to this process alone reaches the child only so
                if number == signal.SIGTERM or not (_has_terminal() or _ends_within(child, seconds=1)):
                    child.send_signal(number)
        return 128 - child.returncode if child.returncode < 0 else child.returncode
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ends_within(child: subprocess.Popen, seconds: float) -> bool:
    try:
        child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _has_terminal() -> bool:
    return bool(sys.stdin) and sys.stdin.isatty()


def _is_root() -> bool:
    return os.name != "nt" and os.geteuid() == 0
