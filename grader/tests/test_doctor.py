"""Every line of the doctor's report, well and ill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from grader import doctor
from grader.bootstrap import GB, ROOT
from grader.doctor import Answer, Finding, diagnose, report

NAMES = ["python", "solutions", "kernels", "grader", "torch", "device", "numba", "nbgrader", "jupyterlab", "disk",
         "sandbox"]
SHADOWS = ("torch", "numba", "nbgrader", "jupyterlab")


def examine(folder: Path, **environment: str) -> tuple[str, dict[str, str]]:
    """The report of a process of its own in `folder`, whole and by name with a failure's fix behind it."""
    done = subprocess.run([sys.executable, "-c", "from grader.doctor import *; print(report(diagnose()))"], cwd=folder,
                          env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.stderr == ""
    text = done.stdout.replace("\n        ", "  ")
    return done.stdout, {line.split()[1]: " ".join(line.split()) for line in text.splitlines()}


@pytest.fixture(scope="module")
def ill(tmp_path_factory) -> tuple[str, dict[str, str], Path]:
    """The report of a machine on which another `solutions` is in front, and no library can be imported."""
    folder = tmp_path_factory.mktemp("shadows")
    (folder / "solutions").mkdir()
    (folder / "solutions" / "__init__.py").write_text("raise RuntimeError('another course')")
    for name in SHADOWS:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"print('noise')\nraise RuntimeError('{name} is broken')")
    (folder / "elsewhere").mkdir()
    whole, lines = examine(folder / "elsewhere", PYTHONPATH=f"{folder}{os.pathsep}{ROOT}", PATH=str(folder))
    return whole, lines, folder


def test_all_is_well_here():
    findings = diagnose()
    assert [finding.name for finding in findings] == NAMES
    assert [finding for finding in findings if not finding.ok and finding.name not in ("disk", "sandbox")] == []
    said = {finding.name: finding.says for finding in findings}
    assert said["kernels"] == str(ROOT / "kernels")
    assert sys.version.split()[0] in said["python"]
    assert "CUDA" in said["numba"]
    assert said["nbgrader"].endswith("with its lab and server extensions")


def test_every_failure_is_a_line_with_its_fix(ill):
    whole, lines, _ = ill
    assert list(lines) == NAMES
    assert "Traceback" not in whole
    for name in NAMES:
        failed = name in (*SHADOWS, "solutions", "device", "sandbox")
        assert lines[name].startswith(f"[FAIL] {name}" if failed else f"[OK] {name}")
        assert ("fix: " in lines[name]) == failed


def test_a_package_from_elsewhere_is_named_with_the_way_back(ill):
    _, lines, folder = ill
    assert f"imported from {folder / 'solutions'}, not from {ROOT / 'solutions'}" in lines["solutions"]
    assert lines["solutions"].endswith("fix: unset PYTHONPATH")


@pytest.mark.parametrize("name", SHADOWS)
def test_a_library_that_raises_is_quoted(ill, name):
    _, lines, _ = ill
    assert f"does not import: RuntimeError: {name} is broken" in lines[name]
    assert f"fix: {sys.executable} -m pip install --force-reinstall" in lines[name]


def test_without_torch_the_device_is_unknown(ill):
    _, lines, _ = ill
    assert "unknown, for torch does not import" in lines["device"]
    assert f"{sys.executable} -m pip install --force-reinstall torch" in lines["device"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bubblewrap is for Linux")
def test_a_missing_sandbox_only_stops_grading(ill, monkeypatch, tmp_path):
    _, lines, _ = ill
    assert "only grading a class needs it" in lines["sandbox"]
    assert lines["sandbox"].endswith("apt install bubblewrap")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not doctor.sandbox().needed


def test_a_folder_one_stands_in_and_one_that_is_installed(tmp_path, monkeypatch):
    home, other = tmp_path / "home", tmp_path / "other"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert doctor._way_back(tmp_path, home) == f"cd {home}"
    assert doctor._way_back(other, home) == f"{sys.executable} -m pip install -e {home}"


def test_a_copy_is_not_the_repository(monkeypatch):
    monkeypatch.setattr(doctor, "editable_root", lambda: None)
    assert doctor._package("kernels").ok
    monkeypatch.setattr(doctor, "ROOT", Path(os.__file__).parent)
    finding = doctor._package("kernels")
    assert not finding.ok
    assert "a copy instead of the repository itself" in finding.says


def test_a_package_that_is_nowhere():
    finding = doctor._package("no_such_package")
    assert (finding.ok, finding.says) == (False, "cannot be imported")
    assert "-m pip install -e" in finding.fix


def test_a_library_that_takes_its_process_along_or_hangs():
    died = doctor._ask("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert died == Answer({}, f"its process was ended by {signal.SIGILL.name}")
    assert doctor._ask("while True: pass", seconds=1).problem == "no answer within 1 s"
    assert doctor._ask("raise SystemExit(3)").problem == "exit code 3"
    assert doctor._ask("print('noise'); print('{\"a\": 1}')") == Answer({"a": 1}, "")


CPU = {"version": "2.13.0+cpu", "threads": 2, "built for": None, "cuda": None, "count": 0, "memory": 0, "mps": False}


@pytest.mark.parametrize(("found", "says"), [
    ({}, "cpu, 2 threads"),
    ({"threads": 1}, "cpu, 1 thread"),
    ({"mps": True}, "mps, Apple silicon"),
    ({"cuda": "Some GPU", "count": 1, "memory": 24 * 2**30}, "cuda, Some GPU, 24 GiB"),
    ({"cuda": "Some GPU", "count": 4, "memory": 24 * 2**30}, "cuda, Some GPU, 24 GiB and 3 more"),
])
def test_the_device_in_words(found, says, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor._device(Answer({**CPU, **found}, "")) == Finding("device", True, says)


def test_a_gpu_that_torch_was_not_built_for_is_told(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "but this is torch's CPU build" in doctor._device(Answer(CPU, "")).says
    assert doctor._device(Answer({**CPU, "built for": "13.0"}, "")).says == "cpu, 2 threads"


def test_another_torch_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "_pinned", lambda name: "2.13.0")
    assert doctor._torch(Answer(CPU, "")) == Finding("torch", True, "2.13.0+cpu")
    assert "2.11.0 (the course is pinned to 2.13.0" in doctor._torch(Answer({"version": "2.11.0"}, "")).says
    assert doctor._torch(Answer({}, "broken")).fix.endswith("--force-reinstall torch==2.13.0")


def test_nbgrader_without_its_extension():
    finding = doctor._nbgrader(Answer({"version": "0.9.6", "missing": ["lab", "server"]}, ""))
    assert not finding.ok
    assert "JupyterLab does not find its lab and server extension" in finding.says
    assert finding.fix.endswith("nbgrader==0.9.6")


def test_a_python_out_of_range(monkeypatch):
    monkeypatch.setattr("grader.__main__.wrong_python", lambda: "The course needs another.\nFix: do this")
    assert doctor._python() == Finding("python", False, "The course needs another.", "do this")


def test_little_space():
    finding = doctor._disk(least=10**6 * GB)
    assert (finding.ok, finding.needed) == (False, False)
    assert "GB free in" in finding.says
    assert finding.fix.startswith(f"{sys.executable} -m pip cache purge")
    assert doctor._disk(least=0).ok


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bubblewrap is for Linux")
def test_a_bubblewrap_that_may_not_isolate(tmp_path, monkeypatch):
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = doctor.sandbox()
    assert (finding.ok, finding.needed) == (False, False)
    assert "runs nothing here (bwrap: setting up uid map: Permission denied)" in finding.says
    assert finding.fix


def test_a_look_that_raises_is_a_failure():
    def look() -> Finding:
        raise KeyError("surprise")
    finding = doctor._finding("disk", look)
    assert not finding.ok
    assert "KeyError: 'surprise'" in finding.says
    assert finding.fix


def test_the_report_is_a_line_each():
    text = report([Finding("disk", True, "5 GB"), Finding("sandbox", False, "missing", "install it")])
    assert text.splitlines() == ["[OK]   disk     5 GB", "[FAIL] sandbox  missing", "                fix: install it"]
