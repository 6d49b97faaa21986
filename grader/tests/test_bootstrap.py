"""From a clone to an environment: the real road on a project of three lines, and everything that can block it."""

import ast
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from grader import bootstrap
from grader.__main__ import HIGHEST, LOWEST, wrong_python
from grader.bootstrap import GB, ROOT, CannotStart, Stamp

posix = pytest.mark.skipif(os.name == "nt", reason="signals and process groups are POSIX")

PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "systematic-course"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = []

[project.optional-dependencies]
test = []
"""

# the smallest build backend: it needs no package and no network, and can be made to wait in the middle
BACKEND = '''
import os, sys, time, tomllib, zipfile
from pathlib import Path

def build_editable(folder, config_settings=None, metadata_directory=None):
    if waiting := os.environ.get("WAIT_IN_BUILD"):
        Path(waiting).write_text(str(os.getpid()))
        time.sleep(60)
    needs = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
    info, name = "systematic_course-0.1.0.dist-info", "systematic_course-0.1.0-py3-none-any.whl"
    metadata = ["Metadata-Version: 2.1", "Name: systematic-course", "Version: 0.1.0", "Provides-Extra: test",
                *("Requires-Dist: " + need for need in needs)]
    with zipfile.ZipFile(Path(folder, name), "w") as wheel:
        wheel.writestr("systematic_course.pth", os.getcwd() + "\\n")
        wheel.writestr(info + "/METADATA", "\\n".join(metadata) + "\\n")
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "/RECORD", "")
    return name

build_wheel = build_editable
'''

CLI = '''
import json, os, sys

def main():
    print("RAN " + json.dumps({"prefix": sys.prefix, "arguments": sys.argv[1:], "path": os.environ.get("PYTHONPATH")}))
    return 7
'''


class Clone(NamedTuple):
    """A small repository with our bootstrap, as somebody has just cloned it."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    def start(self, *arguments: str, python: Path | str = sys.executable, **environment: str):
        return subprocess.run([python, "-m", "grader", *arguments], cwd=self.root, env={**os.environ, **environment},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)


def clone(root: Path) -> Clone:
    for package, files in {"grader": ("__init__.py", "__main__.py", "bootstrap.py"),
                           "solutions": ("__init__.py", "files.py")}.items():
        (root / package).mkdir(parents=True)
        for name in files:
            shutil.copy(ROOT / package / name, root / package / name)
    (root / "grader" / "cli.py").write_text(CLI)
    (root / "backend.py").write_text(BACKEND)
    (root / "pyproject.toml").write_text(PROJECT)
    return Clone(root.resolve())


@pytest.fixture
def fresh(tmp_path) -> Clone:
    return clone(tmp_path / "a folder with spaces")


class Installed(NamedTuple):
    """A clone after its first two starts: one interrupted while pip was at work, one that went on from there."""

    clone: Clone
    interrupted: subprocess.CompletedProcess
    left_behind: Stamp | None
    build_process: int
    first: subprocess.CompletedProcess
    stamp: Stamp


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    folder = tmp_path_factory.mktemp("bootstrap")
    here, building = clone(folder / "a folder with spaces"), folder / "building"
    # what would send pip elsewhere or mix another Python's packages in, were it not kept out
    (folder / "other" / "pip").mkdir(parents=True)
    (folder / "other" / "pip" / "__init__.py").write_text("raise ImportError('pip of another Python')")
    oddities = {"PIP_USER": "1", "PIP_TARGET": str(folder / "target"), "PYTHONPATH": str(folder / "other")}

    child = subprocess.Popen([sys.executable, "-m", "grader", "lab"], cwd=here.root, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, **oddities, "WAIT_IN_BUILD": str(building)})
    while not (building.is_file() and building.read_text()) and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    interrupted = subprocess.CompletedProcess(child.args, child.returncode, out, err)
    left_behind = bootstrap.read_stamp(here.venv)

    first = here.start("lab", "--no-browser", **oddities)
    return Installed(here, interrupted, left_behind, int(building.read_text()), first,
                     bootstrap.read_stamp(here.venv))


def ran(done: subprocess.CompletedProcess) -> dict:
    """What the command line that was started in the end says of where it runs."""
    return json.loads(done.stdout.split("RAN ")[1])


def gone(process: int) -> bool:
    """Whether a process of nobody's has ended; one that init has not yet buried is waited for."""
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@posix
def test_an_interrupted_installation_ends_cleanly(installed):
    done = installed.interrupted
    assert done.returncode == 130
    assert "First time: installing" in done.stdout
    assert done.stderr.strip() == "Interrupted. Nothing is broken: the same command goes on from here."
    assert installed.left_behind is None
    assert gone(installed.build_process)


def test_the_next_start_goes_on_and_runs_in_the_new_environment(installed):
    done = installed.first
    assert done.returncode == 7, done.stderr
    assert "Going on with the installation" in done.stdout
    told = ran(done)
    assert Path(told["prefix"]).resolve() == installed.clone.venv.resolve()
    assert told["arguments"] == ["lab", "--no-browser"]
    assert told["path"] is None
    assert installed.stamp == Stamp(bootstrap.pyproject_hash(installed.clone.root),
                                    f"{sys.version_info.major}.{sys.version_info.minor}", (), str(installed.clone.root))


def test_a_later_start_installs_nothing(installed):
    log = installed.clone.venv / bootstrap.LOG
    log.write_text("as it was")
    for python in (sys.executable, bootstrap.python_of(installed.clone.venv)):
        done = installed.clone.start("lab", "x", python=python)
        assert done.returncode == 7
        assert done.stdout.startswith("RAN ")
        assert ran(done)["arguments"] == ["lab", "x"]
        assert Path(ran(done)["prefix"]).resolve() == installed.clone.venv.resolve()
    assert log.read_text() == "as it was"


def test_the_tests_extra_is_added_and_kept(installed):
    # from inside the environment too, where `lab` has left the tests' packages out
    done = installed.clone.start("test", "-k", "x", python=bootstrap.python_of(installed.clone.venv))
    assert done.returncode == 7, done.stderr
    assert "Bringing .venv up to date" in done.stdout
    assert bootstrap.read_stamp(installed.clone.venv).extras == ("test",)
    assert installed.clone.start("lab").stdout.startswith("RAN ")
    assert bootstrap.read_stamp(installed.clone.venv).extras == ("test",)


def test_pip_that_fails_is_quoted_with_the_fix(installed, tmp_path):
    pyproject = installed.clone.root / "pyproject.toml"
    before, stamp = pyproject.read_text(), bootstrap.read_stamp(installed.clone.venv)
    pyproject.write_text(before.replace("dependencies = []", 'dependencies = ["systematic-no-such-package"]'))
    try:
        done = installed.clone.start("lab", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    finally:
        pyproject.write_text(before)
    assert done.returncode == 1
    assert "No matching distribution found for systematic-no-such-package" in done.stderr
    assert "pip reached no package index. Fix: check the network" in done.stderr
    assert "Traceback" not in done.stderr
    assert "No matching distribution" in (installed.clone.venv / bootstrap.LOG).read_text()
    assert bootstrap.read_stamp(installed.clone.venv) == stamp


@pytest.fixture
def asked(installed, monkeypatch) -> list[list[str]]:
    """The commands that a start would run on the installed clone, none of which runs; its stamp is put back."""
    commands: list[list[str]] = []
    stamp = (installed.clone.venv / bootstrap.STAMP).read_bytes()
    monkeypatch.setattr(bootstrap, "_run", lambda command, **_: commands.append(list(command)) or (0, []))
    yield commands
    (installed.clone.venv / bootstrap.STAMP).write_bytes(stamp)


def test_a_broken_environment_is_made_anew(installed, asked, capsys):
    python = bootstrap.python_of(installed.clone.venv)
    target = os.readlink(python)
    python.unlink()
    python.symlink_to("/no/such/python")
    try:
        bootstrap.prepare(installed.clone.root, ())
    finally:
        python.unlink()
        python.symlink_to(target)
    assert "does not run any more: making .venv anew" in capsys.readouterr().out
    assert asked[0][1:4] == ["-m", "venv", "--clear"]
    assert "pip" in asked[1]


@pytest.mark.parametrize(("change", "reason"), [
    ({"python": "3.9"}, "was made with Python 3.9, and its Python is now"),
    ({"root": "/home/before"}, "This folder was /home/before when .venv was made"),
])
def test_an_environment_of_another_python_or_place_is_made_anew(installed, asked, capsys, change, reason):
    stamp = bootstrap.read_stamp(installed.clone.venv)._replace(**change)
    bootstrap.write_stamp(installed.clone.venv, stamp)
    bootstrap.prepare(installed.clone.root, ())
    assert reason in capsys.readouterr().out
    assert [command[2] for command in asked] == ["venv", "-m"]
    assert bootstrap.read_stamp(installed.clone.venv) == bootstrap.wanted(installed.clone.root, stamp.extras)


@pytest.mark.parametrize("change", [{"pyproject": "another"}, None])
def test_a_changed_pyproject_or_no_stamp_is_installed_into_what_is_there(installed, asked, change):
    stamp = bootstrap.read_stamp(installed.clone.venv)
    if change:
        bootstrap.write_stamp(installed.clone.venv, stamp._replace(**change))
    else:
        (installed.clone.venv / bootstrap.STAMP).write_text('{"pyproject": "torn')
    bootstrap.prepare(installed.clone.root, ("test",))
    assert len(asked) == 1
    assert asked[0][-2:] == ["-e", ".[test]"]
    asked.clear()
    bootstrap.prepare(installed.clone.root, ("test",))
    assert asked == []


def test_a_course_that_was_uninstalled_is_installed_again(installed, asked, monkeypatch):
    answer = bootstrap.ask(bootstrap.python_of(installed.clone.venv))
    assert answer.repository == str(installed.clone.root)
    monkeypatch.setattr(bootstrap, "ask", lambda python: answer._replace(repository=None))
    bootstrap.prepare(installed.clone.root, ())
    assert [command[3] for command in asked] == ["pip"]


def test_an_environment_without_pip_is_made_anew(fresh, monkeypatch, capsys):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", fresh.venv], check=True)
    commands = []
    monkeypatch.setattr(bootstrap, "_run", lambda command, **_: commands.append(command) or (0, []))
    bootstrap.prepare(fresh.root, ())
    assert f"{fresh.venv} has no pip: making .venv anew" in capsys.readouterr().out
    assert "--clear" in commands[0]


def test_an_environment_that_lost_the_course_does_not_start_for_ever(fresh, monkeypatch, capsys):
    monkeypatch.setenv(bootstrap.STARTED, str(fresh.root))
    with pytest.raises(SystemExit) as ended:
        bootstrap.ensure(["lab"], fresh.root)
    assert "does not find the course" in str(ended.value)
    assert bootstrap.STARTED not in os.environ


def test_a_file_in_the_way_is_named(fresh):
    fresh.venv.write_text("")
    with pytest.raises(CannotStart, match="Fix: rm "):
        bootstrap.prepare(fresh.root, ())


@pytest.mark.parametrize("module", ["ensurepip", "venv"])
@pytest.mark.parametrize("apt", [True, False])
def test_a_missing_module_is_told_with_the_package_that_has_it(fresh, monkeypatch, module, apt):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/usr/bin/{name}" if apt else None)
    with pytest.raises(CannotStart) as told:
        bootstrap.prepare(fresh.root, ())
    assert f"without its module {module}" in str(told.value)
    package = f"apt install python3.{sys.version_info.minor}-venv"
    assert package in str(told.value) if apt else "your system's package with Python's venv" in str(told.value)
    assert not fresh.venv.exists()


def test_a_venv_that_fails_is_quoted(fresh, monkeypatch):
    monkeypatch.setattr(bootstrap, "_run", lambda command, **_: (1, ["Error: the reason"]))
    with pytest.raises(CannotStart, match=r"could not make .*\n    Error: the reason\nFix: "):
        bootstrap.prepare(fresh.root, ())


def test_too_little_space_is_told_with_figures(fresh, monkeypatch):
    free = shutil.disk_usage(fresh.root)._replace(free=int(1.25 * GB))
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: free)
    done = []
    monkeypatch.setattr(bootstrap, "_run", lambda command, **_: done.append(command) or (0, []))
    with pytest.raises(CannotStart) as told:
        bootstrap.prepare(fresh.root, ())
    assert f"needs about 4.0 GB, and 1.2 GB are free in {fresh.root}" in str(told.value)
    assert done == []

    fresh.venv.mkdir()
    with open(fresh.venv / "what an earlier start had installed", "wb") as file:
        file.truncate(int(1.5 * GB))
    bootstrap._demand_space(fresh.venv)


@pytest.mark.parametrize("free", [GB, 3 * GB])
def test_pip_unpacks_where_there_is_room(installed, tmp_path, monkeypatch, free):
    usage = shutil.disk_usage(tmp_path)
    small = str(tmp_path)
    monkeypatch.setattr(bootstrap.tempfile, "gettempdir", lambda: small)
    monkeypatch.setattr(bootstrap.shutil, "disk_usage",
                        lambda path: usage._replace(free=free) if path == small else usage)
    with bootstrap._room_to_unpack(installed.clone.venv) as folder:
        code, lines = bootstrap._run([sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"],
                                     installed.clone.root, None, folder)
        assert (code, lines == [str(installed.clone.venv / "tmp")]) == (0, free == GB)
    assert not (installed.clone.venv / "tmp").exists()


def test_a_folder_that_cannot_be_written_is_told(fresh, require):
    command = [sys.executable, "-m", "grader", "lab"]
    if os.geteuid() == 0:      # whom permissions do not stop
        command = [require("sandbox"), "--ro-bind", "/", "/", "--dev", "/dev", *command]
    fresh.root.chmod(0o555)
    try:
        done = subprocess.run(command, cwd=fresh.root, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    finally:
        fresh.root.chmod(0o755)
    assert done.returncode == 1
    assert f"{fresh.root} cannot be written" in done.stderr
    assert "Fix: clone the repository into a folder of your own" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_not_called_read_only(fresh, monkeypatch):
    def full(dir):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(bootstrap.tempfile, "TemporaryFile", full)
    bootstrap._demand_writable(fresh.root)


@pytest.mark.parametrize(("line", "fix"), [
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "free some space"),
    ("WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)'", "check the network"),
    ("ERROR: No matching distribution found for torch==2.13.0", "use a 64-bit Python"),
    ("ERROR: something that nobody has seen before", "Fix what the lines above name"),
])
def test_each_way_that_pip_fails_has_its_fix(line, fix):
    assert fix in bootstrap._pip_fix(["Collecting things", line])


def test_help_before_anything_is_installed_installs_nothing(fresh):
    done = fresh.start("--help")
    assert done.returncode == 0
    assert "python3 -m grader lab" in done.stdout
    assert fresh.start().returncode == 2
    assert not fresh.venv.exists()


@posix
def test_a_second_start_waits_for_the_first(fresh, capsys):
    inside = threading.Event()

    def second() -> None:
        with bootstrap._alone(fresh.root):
            inside.set()

    with bootstrap._alone(fresh.root):
        thread = threading.Thread(target=second)
        thread.start()
        assert not inside.wait(0.3)
    assert inside.wait(5)
    thread.join()
    assert "Another start is installing the course: waiting for it." in capsys.readouterr().out


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_what_was_started_too(tmp_path, number, code):
    pid = tmp_path / "pid"
    # what a shell puts in the background does not hear Ctrl-C
    program = f"""
import sys
from pathlib import Path
from grader import bootstrap
bootstrap.editable_root = lambda: None
bootstrap.prepare = lambda root, extras: bootstrap._run(["sh", "-c", "sleep 60 & echo $! > {pid}; wait"], root, None)
bootstrap.ensure(["lab"], Path({str(tmp_path)!r}))
"""
    child = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (pid.is_file() and pid.read_text()) and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(number)
    out = child.communicate(timeout=20)[0]
    assert child.returncode == code
    assert "Traceback" not in out
    assert gone(int(pid.read_text()))


@pytest.mark.parametrize("version", [(3, 6), (3, 10), (3, 15), (4, 0)])
def test_another_python_is_told_what_to_do(version, monkeypatch):
    monkeypatch.setattr("grader.__main__._another_python", lambda: "")
    told = wrong_python(version, ["test", "-k", "x"])
    assert f"The course needs Python 3.11 to 3.14; this is Python {version[0]}.{version[1]}" in told
    assert "then type python3.12 -m grader test -k x" in told


def test_a_python_that_is_here_is_recommended(monkeypatch, tmp_path):
    (tmp_path / "python3.13").write_text("#!/bin/sh\nexit 127\n")      # a version manager's command for none
    (tmp_path / "python3.12").write_text("#!/bin/sh\nexit 0\n")
    for file in tmp_path.iterdir():
        file.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "python3.12 is on this machine. Fix: python3.12 -m grader lab" in wrong_python((3, 9))


def test_the_pythons_are_those_of_pyproject():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == f">={LOWEST[0]}.{LOWEST[1]},<{HIGHEST[0]}.{HIGHEST[1] + 1}"
    assert [wrong_python(version) for version in [LOWEST, (3, 12), (3, 13), HIGHEST, (3, 11, 7)]] == [""] * 5


@pytest.mark.parametrize("name", ["__init__.py", "__main__.py"])
def test_an_old_python_can_read_what_it_is_shown_first(name):
    ast.parse((ROOT / "grader" / name).read_text(), feature_version=(3, 6))


def test_nothing_but_the_standard_library_is_needed_to_start():
    tree = ast.parse((ROOT / "grader" / "bootstrap.py").read_text())
    imported = {name.split(".")[0] for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
                for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])}
    assert "json" in imported
    assert imported <= sys.stdlib_module_names


@pytest.mark.slow
def test_a_fresh_clone_of_the_course_itself(tmp_path):
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    try:
        for expected in ("Installed in", "[OK]   python"):
            done = subprocess.run([sys.executable, "-m", "grader", "doctor"], cwd=tmp_path, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True)
            assert expected in done.stdout, done.stdout + done.stderr
            assert "[OK]   torch" in done.stdout
            assert f"{tmp_path.resolve() / 'solutions'}" in done.stdout
        assert "Installed in" not in done.stdout
    finally:
        shutil.rmtree(tmp_path / ".venv", ignore_errors=True)      # 2 GB, which pytest would keep
