"""What this machine has and lacks for the course, one line each, with the command that repairs it."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from grader.bootstrap import DISTRIBUTION, GB, ROOT, editable_root

PACKAGES = ("solutions", "kernels", "grader")


class Finding(NamedTuple):
    """One line of the report.

    name    what was looked at
    ok      whether it is as it should be
    says    what was found, in words
    fix     the command (or the deed) that repairs it; empty when ok
    needed  False when the course works without it, for all but what `says` names
    """

    name: str
    ok: bool
    says: str
    fix: str = ""
    needed: bool = True


class Answer(NamedTuple):
    """What a library said of itself in a process of its own, or in one line why it could not."""

    found: dict
    problem: str


def diagnose() -> list[Finding]:
    """Look at everything the course stands on. Takes seconds, changes nothing, and never raises."""
    # in processes of their own: a library that breaks, or brings its whole process down, is one line of the report
    with ThreadPoolExecutor(max_workers=2) as pool:
        jupyter = pool.submit(_ask, _JUPYTER)
        torch = pool.submit(_ask, _TORCH)
        numba = pool.submit(_finding, "numba", _numba)
        isolation = pool.submit(_finding, "sandbox", sandbox)
        looks: list[tuple[str, Callable[[], Finding]]] = [
            ("python", _python),
            *((name, lambda name=name: _package(name)) for name in PACKAGES),
            ("torch", lambda: _torch(torch.result())),
            ("device", lambda: _device(torch.result())),
            ("numba", numba.result),
            ("nbgrader", lambda: _nbgrader(_part(jupyter.result(), "nbgrader"))),
            ("jupyterlab", lambda: _lab(_part(jupyter.result(), "jupyterlab"))),
            ("disk", _disk),
            ("sandbox", isolation.result)]
        return [_finding(name, look) for name, look in looks]


def report(findings: list[Finding]) -> str:
    """The findings as text: one [OK] or [FAIL] line each, and under a failure its fix."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        verdict = "[OK]  " if finding.ok else "[FAIL]"
        lines.append(f"{verdict} {finding.name:<{width}}  {finding.says}")
        if not finding.ok:
            lines.append(f"       {'':<{width}}  fix: {finding.fix}")
    return "\n".join(lines)


def _finding(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Exception as problem:
        return Finding(name, False, f"could not be looked at: {type(problem).__name__}: {problem}",
                       f"rm -rf {shlex.quote(str(ROOT / '.venv'))} && python3 -m grader lab")


def _python() -> Finding:
    from grader.__main__ import wrong_python
    complaint = wrong_python()
    if complaint:
        says, fix = complaint.split("Fix: ")
        return Finding("python", False, says.strip(), fix)
    return Finding("python", True, f"{sys.version.split()[0]}, {sys.executable}")


def _package(name: str) -> Finding:
    home = editable_root() or ROOT
    loaded = sys.modules.get(name)
    spec = getattr(loaded, "__spec__", None) or importlib.util.find_spec(name)
    if spec is None:
        return Finding(name, False, "cannot be imported", _pip("-e", str(home)))
    found = Path(spec.origin or next(iter(spec.submodule_search_locations))).resolve()
    folder = found.parent if spec.origin else found
    if folder.parent == home and (home / "pyproject.toml").is_file():
        return Finding(name, True, str(folder))
    if (home / "pyproject.toml").is_file():
        return Finding(name, False, f"imported from {folder}, not from {home / name}", _way_back(folder.parent, home))
    return Finding(name, False, f"imported from {folder}, a copy instead of the repository itself",
                   "in the repository's folder: " + _pip("-e", "."))


def _way_back(wrong: Path, home: Path) -> str:
    given = [Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if wrong in given:
        return "unset PYTHONPATH"
    if wrong == Path.cwd():
        return f"cd {shlex.quote(str(home))}"
    return _pip("-e", str(home))


_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
torch.ones(2).sum().item()
print(json.dumps({
    "version": torch.__version__, "threads": torch.get_num_threads(), "built for": torch.version.cuda,
    "cuda": torch.cuda.get_device_name() if cuda else None, "count": torch.cuda.device_count() if cuda else 0,
    "memory": torch.cuda.get_device_properties(0).total_memory if cuda else 0,
    "mps": torch.backends.mps.is_available()}))
"""


def _torch(answer: Answer) -> Finding:
    pinned = _pinned("torch")
    if answer.problem:
        return Finding("torch", False, f"does not import: {answer.problem}", _new_torch())
    version = answer.found["version"]
    if pinned and version.split("+")[0] != pinned:
        return Finding("torch", True, f"{version} (the course is pinned to {pinned}, which is what its tests run on)")
    return Finding("torch", True, version)


def _device(answer: Answer) -> Finding:
    if answer.problem:
        return Finding("device", False, "unknown, for torch does not import", _new_torch())
    found = answer.found
    if found["cuda"]:
        more = f" and {found['count'] - 1} more" if found["count"] > 1 else ""
        return Finding("device", True, f"cuda, {found['cuda']}, {found['memory'] / 2**30:.0f} GiB{more}")
    if found["mps"]:
        return Finding("device", True, "mps, Apple silicon")
    threads = "1 thread" if found["threads"] == 1 else f"{found['threads']} threads"
    if shutil.which("nvidia-smi") and not found["built for"]:
        return Finding("device", True, f"cpu, {threads} (an NVIDIA driver is here, but this is torch's CPU build)")
    return Finding("device", True, f"cpu, {threads}")


def _new_torch() -> str:
    pinned = _pinned("torch")
    return _pip("--force-reinstall", f"torch=={pinned}" if pinned else "torch")


def _numba() -> Finding:
    kernels = _package("kernels")
    if not kernels.ok:
        return Finding("numba", False, f"unknown, for kernels is {kernels.says}", kernels.fix)
    from kernels import backend
    what = backend()
    if what == "none":
        problem = _ask("import numba.cuda; print('{}')").problem
        says = f"does not import: {problem}" if problem else "sees no CUDA device, and its simulator does not work"
        return Finding("numba", False, f"{says}; the kernels need one of them",
                       _pip("--force-reinstall", "--no-deps", "numba", "llvmlite", "numba-cuda"))
    where = "CUDA" if what == "cuda" else "the CUDA simulator (no CUDA device here)"
    return Finding("numba", True, f"{importlib.metadata.version('numba')}, {where}")


# One process for both, for they load the same hundred libraries. Of these jsonschema's grammar of web addresses is
# optional, and building it takes longer than all the rest.
_JUPYTER = """
import json, sys
from pathlib import Path
sys.modules["rfc3987_syntax"] = None

def version(name):
    try:
        return {"version": __import__(name).__version__}
    except BaseException as problem:
        return {"problem": f"{type(problem).__name__}: {problem}"}

found = {"nbgrader": version("nbgrader"), "jupyterlab": version("jupyterlab")}
try:
    from jupyter_core.paths import jupyter_config_path, jupyter_path
    places = {"lab": (jupyter_path("labextensions"), "@jupyter/nbgrader/package.json"),
              "server": (jupyter_config_path(), "jupyter_server_config.d/nbgrader.json")}
    found["nbgrader"]["missing"] = [kind for kind, (folders, name) in places.items()
                                    if not any(Path(folder, name).is_file() for folder in folders)]
except BaseException as problem:
    found["nbgrader"]["problem"] = f"{type(problem).__name__}: {problem}"
print(json.dumps(found))
"""


def _part(answer: Answer, name: str) -> Answer:
    if answer.problem:
        return answer
    return Answer(answer.found[name], answer.found[name].get("problem", ""))


def _nbgrader(answer: Answer) -> Finding:
    if answer.problem:
        return Finding("nbgrader", False, f"does not import: {answer.problem}", _pip("--force-reinstall", "nbgrader"))
    version = answer.found["version"]
    missing = " and ".join(answer.found["missing"])
    if missing:
        return Finding("nbgrader", False, f"{version}, but JupyterLab does not find its {missing} extension",
                       _pip("--force-reinstall", "--no-deps", f"nbgrader=={version}"))
    return Finding("nbgrader", True, f"{version}, with its lab and server extensions")


def _lab(answer: Answer) -> Finding:
    if answer.problem:
        return Finding("jupyterlab", False, f"does not import: {answer.problem}",
                       _pip("--force-reinstall", "jupyterlab"))
    return Finding("jupyterlab", True, answer.found["version"])


def _disk(least: int = 2 * GB) -> Finding:
    home = editable_root() or ROOT
    free = shutil.disk_usage(home).free
    if free < least:
        return Finding("disk", False, f"{free / GB:.1f} GB free in {home}, and a run wants {least / GB:.0f} GB",
                       f"{_python_command()} -m pip cache purge, or free some space otherwise", needed=False)
    return Finding("disk", True, f"{free / GB:.0f} GB free in {home}")


def sandbox() -> Finding:
    why = "only grading a class needs it"
    if not sys.platform.startswith("linux"):
        return Finding("sandbox", False, f"bubblewrap is for Linux; {why}", "grade on a Linux machine", needed=False)
    if shutil.which("bwrap") is None:
        return Finding("sandbox", False, f"bubblewrap is not installed; {why}",
                       f"{'' if os.geteuid() == 0 else 'sudo '}apt install bubblewrap", needed=False)
    command = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--unshare-net",
               "--unshare-pid", "--unshare-ipc", "--die-with-parent", "true"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        problem = done.returncode and (_last(done.stderr) or f"exit code {done.returncode}")
    except subprocess.TimeoutExpired:
        problem = "no answer within 20 s"
    if problem:
        return Finding("sandbox", False, f"bubblewrap runs nothing here ({problem}); {why}", _namespaces(),
                       needed=False)
    version = subprocess.run(["bwrap", "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    return Finding("sandbox", True, version.strip())


def _namespaces() -> str:
    # the first of these settings is Ubuntu's, since 23.10; the second was Debian's
    for setting, value in (("kernel.apparmor_restrict_unprivileged_userns", "0"),
                           ("kernel.unprivileged_userns_clone", "1"), ("user.max_user_namespaces", "10000")):
        path = Path("/proc/sys", *setting.split("."))
        if path.is_file() and (path.read_text().strip() == "0") == (value != "0"):
            return f"sudo sysctl {setting}={value}"
    return "allow unprivileged user namespaces (in a container: docker run --security-opt seccomp=unconfined ...)"


def _ask(code: str, seconds: float = 60) -> Answer:
    """Run a few lines that print one JSON object last, with this process's import path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
    try:
        done = subprocess.run([sys.executable, "-c", code], env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired:
        return Answer({}, f"no answer within {seconds:.0f} s")
    if done.returncode < 0:
        return Answer({}, f"its process was ended by {signal.Signals(-done.returncode).name}")
    try:
        return Answer(json.loads(_last(done.stdout)), "")
    except ValueError:
        return Answer({}, _last(done.stderr) or f"exit code {done.returncode}")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _pinned(name: str) -> str:
    try:
        requires = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    pins = [re.match(rf"{re.escape(name)}==([\w.]+)", requirement) for requirement in requires]
    return next((pin.group(1) for pin in pins if pin), "")


def _pip(*arguments: str) -> str:
    return f"{_python_command()} -m pip install {' '.join(shlex.quote(argument) for argument in arguments)}"


def _python_command() -> str:
    return shlex.quote(sys.executable)
