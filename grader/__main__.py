"""`python3 -m grader lab` in a fresh clone: any Python starts it, the course's own environment runs it.

This file (and grader/__init__.py) keeps to the syntax of Python 3.6, so that an old Python reads it and is told what to
do instead of failing on a line it does not know.
"""

import shutil
import subprocess
import sys

LOWEST = (3, 11)
HIGHEST = (3, 14)


def wrong_python(version=sys.version_info[:2], arguments=()):
    """Say in a sentence, with its fix, that this Python cannot run the course; the empty string when it can."""
    version = tuple(version[:2])
    if LOWEST <= version <= HIGHEST:
        return ""
    wanted = f"Python {_dotted(LOWEST)} to {_dotted(HIGHEST)}"
    typed = " ".join(arguments) or "lab"
    found = _another_python()
    if found:
        fix = f"{found} is on this machine. Fix: {found} -m grader {typed}"
    else:
        fix = ("Fix: install one of them (your system's package manager or python.org has it), then type "
               f"python3.12 -m grader {typed}; or with conda: conda env create -f environment.yml && "
               f"conda activate systematic && course {typed}")
    return f"The course needs {wanted}; this is Python {_dotted(version)} ({sys.executable}).\n{fix}"


def _dotted(version):
    return ".".join(str(part) for part in version)


def _another_python():
    for minor in range(HIGHEST[1], LOWEST[1] - 1, -1):
        name = f"python3.{minor}"
        # a version manager may have a command of that name for a Python that is not installed
        if shutil.which(name) and subprocess.call([name, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            return name
    return ""


def main():
    """Make the environment where there is none, go on inside it, and return the command's exit code."""
    complaint = wrong_python(arguments=sys.argv[1:])
    if complaint:
        sys.stderr.write(complaint + "\n")
        return 1
    from grader.bootstrap import ensure
    ensure(sys.argv[1:])
    from grader.cli import main as course
    return course()


if __name__ == "__main__":
    sys.exit(main())
