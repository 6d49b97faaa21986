"""Progress bars for `course run`: one per arm in a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from solutions.experiments.__main__ import Reporter
from solutions.experiments.running import Say


def reporter() -> Reporter | None:
    """Bars where there is a terminal to draw them in; None leaves it to plain lines."""
    return _bars if sys.stdout.isatty() else None


@contextmanager
def _bars(arms: list[str]) -> Iterator[Say]:
    columns = (TextColumn("  {task.description:9}"), BarColumn(), TextColumn("{task.fields[words]}"),
               TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bars = {arm: progress.add_task(arm, total=None, words="waiting") for arm in arms}

        def say(arm: str, done: int, of: int, words: str) -> None:
            progress.update(bars[arm], completed=done, total=of, words=words)
        yield say
