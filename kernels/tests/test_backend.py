"""What kernels can run on here, found out without deciding it."""

import os
import subprocess
import sys

import pytest

import kernels


def backend(**environment: str) -> str:
    program = "import kernels, sys; print(kernels.backend(), 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True,
                          text=True, check=True, cwd=os.path.dirname(os.path.dirname(kernels.__file__)))
    return done.stdout.strip()


def test_the_simulator_can_be_asked_for_and_numba_stays_out_of_this_process():
    assert backend(NUMBA_ENABLE_CUDASIM="1") == "simulator False"


def test_without_the_request_a_device_comes_first():
    import torch
    expected = "cuda" if torch.cuda.is_available() else "simulator"
    assert backend(NUMBA_ENABLE_CUDASIM="0") == f"{expected} False"


@pytest.mark.parametrize("broken", ["raise ImportError('no llvmlite')", "import os; os.abort()"])
def test_a_numba_that_does_not_work_is_none(tmp_path, broken):
    (tmp_path / "numba.py").write_text(broken)
    assert backend(PYTHONPATH=str(tmp_path), NUMBA_ENABLE_CUDASIM="1") == "none False"
