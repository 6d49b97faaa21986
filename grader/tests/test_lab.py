"""JupyterLab as it is started for a learner: at the lesson, quietly, and gone when it is stopped."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from grader import lab
from grader.bootstrap import ROOT

NOTEBOOK = {"cells": [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Start here"}],
            "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
            "nbformat": 4, "nbformat_minor": 5}

PROGRAM = """
import sys
from pathlib import Path
from grader.lab import open_lab
root = Path(sys.argv[1])
sys.exit(open_lab(root / "work" / "00 start here.ipynb", root, browser=False, port=0))
"""


class Server(NamedTuple):
    process: subprocess.Popen
    address: str
    log: Path
    home: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """JupyterLab as `--no-browser` starts it, for somebody who has never used it."""
    root, home = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("home")
    log = home / "log"
    (root / "work").mkdir()
    (root / "work" / "00 start here.ipynb").write_text(json.dumps(NOTEBOOK))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, root], cwd=ROOT, stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT,
                                   env={**environment, "HOME": str(home), "TMPDIR": str(home)})
    try:
        address, deadline = None, time.monotonic() + 60
        while not address and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
            address = re.search(r"http://127\.0\.0\.1\S+(?=\n)", log.read_text())
        assert address, f"no address in what JupyterLab said:\n{log.read_text()}"
        yield Server(process, address.group(), log, home)
    finally:
        process.terminate()      # passed on to JupyterLab, as a kill would not be
        process.wait(timeout=30)


def test_the_address_with_its_token_is_nearly_all_that_is_said(server):
    assert re.search(r"/lab/tree/work/00%20start%20here\.ipynb\?token=\w+$", server.address)
    said = server.log.read_text()
    assert "Ctrl-C" in said
    assert not re.search(r"\[[IW] |WARNING", said), said
    assert len(said.splitlines()) < 12


def test_jupyterlab_answers_with_our_defaults(server):
    token = server.address.split("token=")[1]
    settings = server.address.split("/lab/")[0] + "/lab/api/settings/@jupyterlab/apputils-extension:notification"
    asked = urllib.request.Request(settings, headers={"Authorization": f"token {token}"})
    with urllib.request.urlopen(asked, timeout=30) as reply:
        schema = json.load(reply)["schema"]["properties"]
    assert schema["fetchNews"]["default"] == "false"
    assert schema["checkForUpdates"]["default"] is False


def test_a_learner_sees_the_lesson_and_no_question(server, require):
    from playwright.sync_api import sync_playwright
    chromium = require("browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(server.address)
        page.get_by_role("heading", name="Start here").wait_for(timeout=60_000)
        page.wait_for_timeout(1000)      # JupyterLab asks its question about news before it shows a notebook
        assert page.locator(".Toastify__toast").all_inner_texts() == []
        assert page.locator(".jp-Dialog").count() == 0
        browser.close()


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_an_interrupt_stops_it_and_leaves_nothing(server):
    assert list(server.home.glob("systematic-lab-*"))
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=30) == 0
    said = server.log.read_text()       # JupyterLab may say that a browser's connection broke; nothing of it is ours
    assert "KeyboardInterrupt" not in said
    assert str(ROOT / "grader") not in said
    assert not list(server.home.glob("systematic-lab-*"))


def test_the_command_line(monkeypatch, tmp_path):
    monkeypatch.setattr(lab, "_is_root", lambda: False)
    monkeypatch.setattr(lab, "_has_terminal", lambda: True)
    notebook = tmp_path / "work" / "00.ipynb"
    start = [sys.executable, "-m", "jupyterlab"]
    where = [f"--ServerApp.root_dir={tmp_path}", "--LabApp.default_url=/lab/tree/work/00.ipynb"]
    assert lab.lab_command(notebook, tmp_path) == [*start, *where]
    assert lab.lab_command(notebook, tmp_path, browser=False, port=9000) == [
        *start, "--no-browser", *where, "--ServerApp.port=9000"]
    monkeypatch.setattr(lab, "_is_root", lambda: True)
    monkeypatch.setattr(lab, "_has_terminal", lambda: False)
    assert lab.lab_command(notebook, tmp_path) == [*start, "--allow-root", "-y", *where]
    extra = ["--allow-root", "--LabApp.default_url=/lab"]
    assert lab.lab_command(notebook, tmp_path, extra=extra) == [*start, "-y", where[0], *extra]


def test_a_notebook_outside_the_repository_is_refused(tmp_path):
    with pytest.raises(ValueError, match="shows what lies under"):
        lab.lab_command(tmp_path / "x.ipynb", tmp_path / "repository")


def test_what_somebody_configured_comes_before_our_defaults(tmp_path):
    inside = lab.lab_environment({"PATH": "/bin", "JUPYTER_CONFIG_PATH": "/mine", "HOME": "/home/me"}, tmp_path)
    assert inside == {"HOME": "/home/me", "JUPYTER_CONFIG_PATH": f"/mine{os.pathsep}{tmp_path}",
                      "PATH": f"{Path(sys.executable).parent}{os.pathsep}/bin"}


def test_the_tests_are_pytest_s_with_its_exit_code(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_one(): assert 1 == 2\ndef test_two(): pass")
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    assert lab.run_tests(tmp_path, options) == 1
    assert lab.run_tests(tmp_path, [*options, "-k", "two", "-n0"]) == 0


@pytest.mark.parametrize(("extra", "spread"), [
    ([], True), (["-m", "slow"], True), (["-n", "4"], False), (["-n0"], False), (["--pdb"], False)])
def test_test_files_are_spread_over_the_cores_unless_told_otherwise(monkeypatch, extra, spread):
    called = []
    monkeypatch.setattr(lab, "_in_foreground", lambda command, root, environment: called.append((command, environment)))
    lab.run_tests(ROOT, extra)
    [(command, environment)] = called
    assert command[-len(extra) or len(command):] == extra
    assert (["-n", str(os.cpu_count()), "--dist", "loadfile"] == command[3:7]) == spread
    assert environment["OMP_NUM_THREADS"]
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None if name == "xdist" else name)
    lab.run_tests(ROOT, extra)
    assert called[1][0][3:] == extra


def test_without_pytest_the_fix_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pytest", None)
    assert lab.run_tests(tmp_path) == 1
    assert f"Fix: {sys.executable} -m pip install -e '{tmp_path}[test]'" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_a_signal_is_the_program_s_to_answer(name):
    program = f"trap 'echo answered; exit 7' {name}; echo ready; while :; do sleep 0.1; done"
    starter = f"import sys; from grader import lab; sys.exit(lab._in_foreground(['sh', '-c', {program!r}], '.', None))"
    process = subprocess.Popen([sys.executable, "-c", starter], cwd=ROOT, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.communicate(timeout=30)[0] == "answered\n"
    assert process.returncode == 7


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_a_program_that_is_killed_has_the_shell_s_exit_code():
    assert lab._in_foreground(["sh", "-c", "kill -9 $$"], ROOT, os.environ) == 137
