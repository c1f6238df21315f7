"""Calls of functions in a fresh Python process of their own.

casatools and python-casacore must never meet in one process, and python-casacore moves visibilities ten times faster
(casatools turns them into complex128 on the way). Functions that use either run here, independent of the caller's
imports, and their memory is released at the end.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from contimg.core.errors import ContimgError
from contimg.core.processes import end_with_parent, unexpected_end

P = ParamSpec("P")
R = TypeVar("R")

_THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def call(threads: int, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a module-level function in a fresh process; returns its result or raises its exception.

    Parameters
    ----------
    threads
        Threads of Numba, OpenMP and BLAS in the process.
    function
        Function to call; its name, arguments and result go through `pickle`.

    Raises
    ------
    JobDiedError
        If the process ended without an answer, for example by a signal.
    """
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
    question = pickle.dumps((logging.getLogger().getEffectiveLevel(), function, args, kwargs), protocol=5)
    # The caller's search path, so that the function's module is found where the caller found it.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    process = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import serve; serve()"],
        input=question,
        stdout=subprocess.PIPE,
        env=environment,
        check=False,
    )
    if not process.stdout:
        raise unexpected_end(process.returncode, f"{function.__qualname__}: its process")
    answer, error = pickle.loads(process.stdout)  # noqa: S301 — from our own child
    if error is not None:
        raise error
    return answer


def serve() -> None:
    """Answer one call: read it from standard input, write the answer to standard output."""
    end_with_parent(os.getppid())  # a parent that is gone already has sent no call to read
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not get into the answer
    level, function, args, kwargs = pickle.load(sys.stdin.buffer)  # noqa: S301 — from our own parent
    logging.basicConfig(level=level, format="%(message)s")
    try:
        answer = pickle.dumps((function(*args, **kwargs), None), protocol=5)
    except ContimgError as error:
        answer = pickle.dumps((None, error))
    except Exception as error:
        answers.write(pickle.dumps((None, error)))
        answers.close()
        raise
    answers.write(answer)
    answers.close()
