"""WSClean: its command line, its run, and what its output means."""

from __future__ import annotations

import logging
import re
import signal
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from contimg.clean.options import MAJOR_GAIN, CleanOptions, Products
from contimg.core import processes
from contimg.core.errors import ConfigError, ContimgError, NoUsableDataError, ToolBrokenError, ToolFailedError
from contimg.job.error_patterns import recognized

_LOG = logging.getLogger(__name__)

_KEPT_LINES = 200
"""Last lines of its output in which the reason of a failure is looked for."""
_SHELL_SIGNAL = 128
"""What a shell adds to the number of the signal that ended its command."""
_NOT_RUN = (126, 127)
"""Exit codes for a program that cannot be run or is not there."""
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
    held_gb = psutil.Process().memory_info().rss / 1e9  # by this process, of what the job may take
    memory_gb = max(options.memory_gb - held_gb, options.memory_gb / 2)
    _run(ms, command(ms, prefix, replace(options, memory_gb=memory_gb)))
    return Products(*(prefix.with_name(f"{prefix.name}-{name}.fits") for name in ("residual", "model", "psf")))


def refuse_if_broken() -> None:
    """See that WSClean runs here; takes 0.02 s.

    Raises
    ------
    ConfigError
        If it does not: it is missing, or a library that it needs is.
    """
    try:
        _run("wsclean", ["wsclean", "--version"])
    except ContimgError as error:
        raise ConfigError(f"imaging.imager: {error}; or choose auto") from error


def _run(subject: Path | str, arguments: list[str]) -> None:
    """Run WSClean, its output line by line to the log.

    Raises
    ------
    DiskFullError, MemoryExhaustedError, NoUsableDataError, JobDiedError, ToolFailedError
        By what it printed and how it ended.
    """
    _LOG.info("%s", " ".join(arguments))
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        with processes.program(arguments) as process:
            for line in filter(None, map(str.rstrip, process.stdout or ())):
                _LOG.info("wsclean: %s", line)
                lines.append(line)
    except OSError as error:
        raise ToolBrokenError(f"{arguments[0]}: cannot be started ({error.strerror}); install it anew") from error
    if failure := _failure(str(subject), process.returncode, list(lines)):
        raise failure


def _failure(subject: str, code: int, lines: list[str]) -> ContimgError | None:
    """The error that WSClean's exit code (negative: a signal) and last lines mean; None if it worked."""
    found = recognized(lines)
    if found and (code or issubclass(found.pattern.error, NoUsableDataError)):
        return found.as_error(subject, "WSClean")
    if code - _SHELL_SIGNAL in signal.valid_signals():
        code = _SHELL_SIGNAL - code
    if -code in processes.CRASHES:
        return ToolBrokenError(
            f"{subject}: WSClean crashed ({signal.Signals(-code).name}); test the installed version"
        )
    if code < 0:
        return processes.death(code, f"{subject}: WSClean")
    if code:
        said = next((match[1] for match in map(_EXCEPTION.search, reversed(lines)) if match), f"exit code {code}")
        error = ToolBrokenError if code in _NOT_RUN else ToolFailedError
        return error(f"{subject}: WSClean failed ({said}); the job fails")
    return None
