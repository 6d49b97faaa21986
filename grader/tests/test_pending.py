"""A test that cannot run here says so by name, and fails where its need is demanded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = '''
def test_in_a_browser(require):
    assert require("browser")
'''


@pytest.fixture
def run(tmp_path):
    """Run one test that needs a browser, beside our conftest, with this PATH and COURSE_REQUIRE."""
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)

    def pytest_with(path: Path, required: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
                              cwd=tmp_path, env=dict(os.environ, PATH=str(path), COURSE_REQUIRE=required,
                                       PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)

    return pytest_with


def test_what_is_missing_is_pending_by_name(run, tmp_path):
    done = run(tmp_path, required="sandbox")
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert "1 test: browser: chromium not found; sudo apt install chromium" in done.stdout


def test_what_is_missing_and_demanded_fails(run, tmp_path):
    done = run(tmp_path, required="sandbox, browser")
    assert done.returncode == 1
    assert "browser: chromium not found; sudo apt install chromium (COURSE_REQUIRE demands it)" in done.stdout


def test_what_is_there_runs(run, tmp_path):
    (tmp_path / "chromium").write_text("#!/bin/sh\n")
    (tmp_path / "chromium").chmod(0o755)
    done = run(tmp_path, required="browser")
    assert done.returncode == 0
    assert "1 passed" in done.stdout
    assert "pending" not in done.stdout


def test_a_need_nobody_knows_is_an_error(run, tmp_path):
    done = run(tmp_path, required="broswer")
    assert done.returncode == 4
    assert "COURSE_REQUIRE names broswer; known are browser, sandbox" in done.stderr
