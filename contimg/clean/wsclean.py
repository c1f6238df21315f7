"""WSClean: its command line, its run, and what its output means."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
from collections import deque
from pathlib import Path

import numpy as np

from contimg.clean.options import MAJOR_GAIN, CleanOptions, Products
from contimg.core.errors import (
    ContimgError,
    DiskFullError,
    JobDiedError,
    MemoryExhaustedError,
    NoUsableDataError,
    ToolFailedError,
)

_LOG = logging.getLogger(__name__)

_FAILURES: tuple[tuple[str, type[ContimgError], str], ...] = (
    (r"No space left on device|Disk quota exceeded|Error writing", DiskFullError, "the disk is full"),
    (r"bad_alloc|Cannot allocate memory", MemoryExhaustedError, "there is not enough memory"),
    (r"beam is neither fitted nor estimated", NoUsableDataError, "all data are flagged"),
)
"""What WSClean prints, the error that it means, and in our words. The first line that matches counts."""
_EXCEPTION = re.compile(r">>> (.*)")
"""WSClean's last words."""

_GRIDDING_ACCURACY = 1e-2
"""Relative to the image, in which nothing is bright: that was taken out before (`bright`). At full size, a third
faster than 1e-3, and changes the image by 0.3 % of its noise."""


def command(ms: Path, prefix: Path, options: CleanOptions) -> list[str]:
    """WSClean's command line."""
    return [
        "wsclean",
        *("-name", str(prefix), "-temp-dir", str(prefix.parent)),
        *("-j", str(options.threads), "-abs-mem", f"{options.memory_gb:g}"),
        *("-size", str(options.size), str(options.size), "-scale", f"{np.degrees(options.pixel_rad):.12g}deg"),
        *(
            "-use-wgridder",
            "-wgridder-accuracy",
            f"{_GRIDDING_ACCURACY:g}",
            "-reorder",
            "-no-update-model-required",
            "-no-dirty",
            "-pol",
            "I",
        ),
        *("-data-column", "DATA", "-weight", "briggs", f"{options.robust:g}"),
        *("-niter", str(options.iterations), "-nmiter", str(options.major_iterations), "-mgain", f"{MAJOR_GAIN:g}"),
        *("-auto-mask", f"{options.mask_sigma:g}", "-auto-threshold", f"{options.threshold_sigma:g}"),
        *(("-maxuv-l", f"{options.longest_wavelengths:g}") if options.longest_wavelengths else ()),
        str(ms),
    ]


def clean(ms: Path, prefix: Path, options: CleanOptions) -> Products:
    """Image and clean with WSClean; see `imager.clean`."""
    _run(ms, command(ms, prefix, options))
    return Products(*(prefix.with_name(f"{prefix.name}-{name}.fits") for name in ("residual", "model", "psf")))


def _run(ms: Path, arguments: list[str]) -> None:
    """Run WSClean in a process group of its own, its output line by line to the log.

    Raises
    ------
    DiskFullError, MemoryExhaustedError, NoUsableDataError, JobDiedError, ToolFailedError
        By what it printed and how it ended.
    """
    _LOG.info("%s", " ".join(arguments))
    failure: ContimgError | None = None
    last: deque[str] = deque(maxlen=1)
    with subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    ) as process:
        try:
            for line in process.stdout or ():
                text = line.rstrip()
                if text:
                    _LOG.info("wsclean: %s", text)
                failure = failure or diagnose(ms, text)
                if match := _EXCEPTION.search(text):
                    last.append(match[1])
        finally:
            if process.poll() is None:
                _end(process)
    if failure is not None:
        raise failure
    if process.returncode < 0:
        raise JobDiedError(f"{ms}: WSClean was ended by signal {-process.returncode}; the job fails")
    if process.returncode:
        said = last[0] if last else f"exit code {process.returncode}"
        raise ToolFailedError(f"{ms}: WSClean failed ({said}); the job fails")


def _end(process: subprocess.Popen[str]) -> None:
    """Wait for a process that has closed its output; kill its group if we are leaving because of an exception."""
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def diagnose(ms: Path, line: str) -> ContimgError | None:
    """The error that a line of WSClean's output means, if it means one."""
    for pattern, error, meaning in _FAILURES:
        if re.search(pattern, line):
            return error(f"{ms}: WSClean says that {meaning} ({line.strip('+ >')}); the job fails")
    return None
