"""What a machine lacks makes its tests pending, by name; COURSE_REQUIRE=browser,sandbox makes that a failure."""

import functools
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable

import pytest

PENDING = "pending: "


class Lacking(Exception):
    """What is not here, and the command that brings it."""


def _browser() -> str:
    """The path of a Chromium that playwright can drive."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    raise Lacking("chromium not found; sudo apt install chromium")


def _sandbox() -> str:
    """The path of a bubblewrap that can isolate something here."""
    from grader.doctor import sandbox
    finding = sandbox()
    if not finding.ok:
        raise Lacking(f"{finding.says}; {finding.fix}")
    return shutil.which("bwrap")


NEEDS: dict[str, Callable[[], str]] = {"browser": functools.cache(_browser), "sandbox": functools.cache(_sandbox)}


@pytest.fixture(scope="session")
def require() -> Callable[[str], str]:
    """require("browser") returns the browser's path; where there is none the test is pending, or fails in CI."""
    def demand(name: str) -> str:
        try:
            return NEEDS[name]()
        except Lacking as lacking:
            if name in _required():
                pytest.fail(f"{name}: {lacking} (COURSE_REQUIRE demands it)", pytrace=False)
            pytest.skip(f"{PENDING}{name}: {lacking}")

    return demand


def _required() -> set[str]:
    return {name.strip() for name in os.environ.get("COURSE_REQUIRE", "").split(",") if name.strip()}


def pytest_configure(config: pytest.Config) -> None:
    unknown = _required() - NEEDS.keys()
    if unknown:
        raise pytest.UsageError(f"COURSE_REQUIRE names {', '.join(sorted(unknown))}; known are {', '.join(NEEDS)}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = (str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ())
               if isinstance(report.longrepr, tuple))
    pending = Counter(found.group(1) for reason in reasons if (found := re.search(rf"{PENDING}(.*)", reason)))
    if pending:
        terminalreporter.section("pending, for this machine lacks what they need")
        for reason, count in sorted(pending.items()):
            terminalreporter.line(f"{count} test{'s' * (count > 1)}: {reason}")
