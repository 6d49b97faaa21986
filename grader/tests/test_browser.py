"""A learner's first minutes in a real browser: lesson 01 in JupyterLab, an exercise wrong, then right."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grader import mutants
from grader.judge import find
from grader.tests.test_cli import Course

RIGHT = mutants.reference_source(find("retention")).replace("    ### BEGIN SOLUTION\n", "").replace(
    "    ### END SOLUTION\n", "")
WRONG = RIGHT.replace(".prod(dim=1)", ".mean(dim=1)")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of JupyterLab, started by the course's own command in a copy of the course."""
    course = Course(tmp_path_factory.mktemp("browser"))
    settings = course.root / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')        # every cell is in the page, so a test can find it
    environment = {**os.environ, "PYTHONPATH": str(course.root), "OMP_NUM_THREADS": "1",
                   "JUPYTERLAB_SETTINGS_DIR": str(course.root / "settings")}
    log = (course.root / "lab.log").open("w+")
    running = subprocess.Popen([sys.executable, "-m", "grader.cli", "lab", "--no-browser"], cwd=course.root,
                               stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    try:
        for _ in range(240):
            found = re.search(r"http://(?:127\.0\.0\.1|localhost):\d+/\S*token=\w+", Path(log.name).read_text())
            if found or running.poll() is not None:
                break
            time.sleep(0.5)
        assert found, Path(log.name).read_text()
        yield found[0]
    finally:
        os.killpg(running.pid, signal.SIGINT)
        time.sleep(1)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        log.close()


def picture(page, name):
    if folder := os.environ.get("COURSE_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def run_cell(page, cell):
    cell.locator(".jp-InputPrompt").first.click()
    page.keyboard.press("Control+Enter")


def write_and_check(page, cell, check, source):
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(source)
    run_cell(page, cell)
    run_cell(page, check)


def test_an_exercise_wrong_and_then_right(lab, require):
    from playwright.sync_api import expect as see
    from playwright.sync_api import sync_playwright

    chromium = require("browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(lab)
        see(page.locator(".jp-Notebook").first).to_be_visible(timeout=90_000)
        see(page.get_by_role("heading", name=re.compile("Start here")).first).to_be_visible(timeout=60_000)
        assert "00_start_here.ipynb" in page.url
        assert not page.get_by_text("Would you like to").is_visible()

        page.locator(".jp-DirListing-item", has_text="01_dnc.ipynb").dblclick()
        notebook = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")
        see(notebook.get_by_role("heading", name=re.compile("DNC memory fixes")).first).to_be_visible(timeout=60_000)
        see(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=90_000)
        cells = notebook.locator(".jp-CodeCell")
        run_cell(page, cells.first)
        see(cells.first.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[1\]"), timeout=90_000)
        exercise = cells.filter(has_text="def retention(").first
        check = cells.filter(has_text=re.compile(r"check\(retention\)")).first

        write_and_check(page, exercise, check, WRONG)
        block = check.locator(".jp-OutputArea")
        see(block).to_contain_text("2 of 4 properties hold", timeout=60_000)
        see(block).to_contain_text("averages the heads")
        block.scroll_into_view_if_needed()
        picture(page, "check-wrong")

        write_and_check(page, exercise, check, RIGHT)
        see(block).to_contain_text("4 of 4 properties hold", timeout=60_000)
        see(block).not_to_contain_text("failed")
        picture(page, "check-right")
        assert errors == []
        browser.close()
