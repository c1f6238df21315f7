"""WSClean: command line, run, and typed errors from its output."""

from __future__ import annotations

import logging
import re
import shutil
import signal
import subprocess
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from contimg.clean.options import EXTERNAL_MAJOR_GAIN, CleanOptions, Products
from contimg.core import processes
from contimg.core.errors import ConfigError, ContimgError, NoUsableDataError, ToolBrokenError, ToolFailedError
from contimg.job.error_patterns import recognized

_LOG = logging.getLogger(__name__)

_KEPT_LINES = 200
"""Number of its last lines of output that are searched for the reason of a failure."""
_SHELL_SIGNAL = 128
"""Offset of a shell's exit codes for commands that a signal ended."""
_NOT_RUN = (126, 127)
"""Exit codes for a program that cannot be run or is absent."""
_ANSWER_S = 60.0
"""Time (s) in which WSClean has to tell its version; on a dead mount it never does."""
_EXCEPTION = re.compile(r">>> (.*)")
"""Error message at the end of WSClean's output."""

_GRIDDING_ACCURACY = 1e-2
"""Accuracy of WSClean's w-gridder, relative to an image without bright sources (`image.source_subtraction`): at full
size a third faster than 1e-3, with changes of 0.3 % of the noise."""


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
        *(
            "-niter",
            str(options.iterations),
            "-nmiter",
            str(options.major_iterations),
            "-mgain",
            f"{EXTERNAL_MAJOR_GAIN:g}",
        ),
        *("-auto-mask", f"{options.mask_sigma:g}", "-auto-threshold", f"{options.threshold_sigma:g}"),
        str(ms),
    ]


def clean(ms: Path, prefix: Path, options: CleanOptions) -> Products:
    """Image and clean with WSClean; see `imager.clean`."""
    held_gb = psutil.Process().memory_info().rss / 1e9  # by this process, of the job's memory
    memory_gb = max(options.memory_gb - held_gb, options.memory_gb / 2)
    _run(ms, command(ms, prefix, replace(options, memory_gb=memory_gb)))
    return Products(*(prefix.with_name(f"{prefix.name}-{name}.fits") for name in ("residual", "model", "psf")))


def refuse_if_missing() -> None:
    """Raise ConfigError if WSClean is not on the PATH."""
    if shutil.which("wsclean") is None:
        raise ConfigError("imaging.imager: wsclean is not on the PATH; install it, or choose auto or tclean")


def refuse_if_broken() -> None:
    """Check that WSClean runs on this machine, in 0.02 s.

    Raises
    ------
    ConfigError
        If WSClean, or a library that it needs, is missing, or if it does not answer.
    """
    arguments = ["wsclean", "--version"]
    failure: ContimgError | None
    try:
        done = processes.output(arguments, _ANSWER_S)
        failure = _failure("wsclean", done.returncode, (done.stdout + done.stderr).splitlines()[-_KEPT_LINES:])
    except OSError as error:
        failure = _not_started(arguments, error)
    except subprocess.TimeoutExpired:
        failure = ToolBrokenError(f"wsclean: does not answer within {_ANSWER_S:g} s; try `wsclean --version`")
    if failure:
        raise ConfigError(f"imaging.imager: {failure}; or choose auto") from failure


def _run(subject: Path | str, arguments: list[str]) -> None:
    """Run WSClean, its output line by line to the log.

    Raises
    ------
    DiskFullError, MemoryExhaustedError, NoUsableDataError, JobDiedError, ToolFailedError
        By its output and its exit code.
    """
    _LOG.info("%s", " ".join(arguments))
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        with processes.program(arguments) as process:
            for line in filter(None, map(str.rstrip, process.stdout or ())):
                _LOG.info("wsclean: %s", line)
                lines.append(line)
    except OSError as error:
        raise _not_started(arguments, error) from error
    if failure := _failure(str(subject), process.returncode, list(lines)):
        raise failure


def _not_started(arguments: list[str], error: OSError) -> ToolBrokenError:
    return ToolBrokenError(f"{arguments[0]}: cannot be started ({error.strerror}); install it anew")


def _failure(subject: str, code: int, lines: list[str]) -> ContimgError | None:
    """Typed error for WSClean's exit code (negative: a signal) and last lines; None for success."""
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
        return processes.unexpected_end(code, f"{subject}: WSClean")
    if code:
        said = next((match[1] for match in map(_EXCEPTION.search, reversed(lines)) if match), f"exit code {code}")
        error = ToolBrokenError if code in _NOT_RUN else ToolFailedError
        return error(f"{subject}: WSClean failed ({said}); the job fails")
    return None
