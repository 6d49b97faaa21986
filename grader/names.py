"""Names that are not known, and the nearest that are."""

import difflib


class CourseError(Exception):
    """Something a user can mend; the message is a sentence, and a notebook shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:          # IPython's hook
        return [str(self)]


class UnknownName(CourseError, LookupError):
    """A lesson, exercise or option that does not exist; the message names the nearest that do."""


def nearest(kind: str, name: str, known: list[str]) -> str:
    """One sentence: no such thing, and what is closest to it."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"no {kind} {name!r}; did you mean {' or '.join(close)}?"
    return f"no {kind} {name!r}; there are {', '.join(known)}"
