"""The `course` command and everything that judges a solution.

In a notebook: from grader import case, check, hint, solution, unlock
"""
# Importing this package loads nothing else: `python3 -m grader` runs before anything is installed.

_IN_A_NOTEBOOK = ("case", "check", "hint", "solution", "unlock")


def __getattr__(name):
    if name in _IN_A_NOTEBOOK:
        from grader import notebook

        return getattr(notebook, name)
    raise AttributeError("module 'grader' has no attribute " + repr(name))
