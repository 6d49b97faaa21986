"""CUDA kernels of the course, and what this machine can run them on."""

import functools
import subprocess
import sys

_PROBE = """
from numba import config, cuda
if cuda.is_available():
    print("simulator" if config.ENABLE_CUDASIM else "cuda")
elif not config.ENABLE_CUDASIM:
    import numba.cuda.simulator.kernel
    print("simulator")
"""


@functools.cache
def backend() -> str:
    """Say what Numba-CUDA kernels can run on here.

    returns  "cuda" where numba sees a device, "simulator" where numba's CUDA simulator can be used (and always where
             NUMBA_ENABLE_CUDASIM=1 asks for it), "none" where neither works

    To use the simulator, set NUMBA_ENABLE_CUDASIM=1 before the first import of numba.
    """
    # numba reads the simulator's flag once, when it is first imported: asking in this process would settle it for good
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60)
    except subprocess.TimeoutExpired:
        return "none"
    told = done.stdout.split()
    return told[-1] if done.returncode == 0 and told else "none"
