"""Error patterns in the output of tools: one table of regular expressions, each with the error that it means.

contimg's own errors are typed; the table serves messages of CASA, WSClean, AOFlagger, HDF5, Slurm and the system.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from contimg.core.errors import (
    PASSING,
    ClusterAwayError,
    ContimgError,
    DiskFullError,
    ErrorClass,
    InputOutputError,
    LockedTableError,
    MemoryExhaustedError,
    NoUsableDataError,
    ToolBrokenError,
    TruncatedFileError,
)

UNTOLD = frozenset({ErrorClass.OTHER, ErrorClass.TOOL_FAILED, ErrorClass.DIED})
"""Error classes of a failure without a known cause, for which the output of a tool may give one."""


@dataclass(frozen=True)
class ErrorPattern:
    """Pattern of a tool's message, the error that it means, and a description (with the pattern's first group)."""

    pattern: re.Pattern[str]
    error: type[ContimgError]
    meaning: str

    @property
    def permanent(self) -> bool:
        """Whether a retry cannot help."""
        return self.error.error_class.permanent


@dataclass(frozen=True)
class ErrorMatch:
    """Error pattern found in the output of a tool, with its line."""

    pattern: ErrorPattern
    meaning: str
    line: str

    def as_error(self, subject: str, tool: str) -> ContimgError:
        """Typed error that names the failed file or job, with the tool's message."""
        said = f"{subject}: {tool} says that {self.meaning}"
        return self.pattern.error(f"{said} ({self.line})" if self.line else said)


_PASSING_NUMBERS = "|".join(str(number) for number in sorted(PASSING))
_PASSING_WORDS = "|".join(re.escape(os.strerror(number)) for number in sorted(PASSING - {errno.ENODATA}))
"""Words of the system; those of ENODATA, "No data available", are tools' words for nothing to work on, too."""

PATTERNS: tuple[ErrorPattern, ...] = tuple(
    ErrorPattern(re.compile(pattern, re.IGNORECASE), error, meaning)
    for pattern, error, meaning in (
        (
            r"unable to contact slurm controller|slurm_load_jobs error"
            r"|batch job submission failed: (?:connection|socket)",
            ClusterAwayError,
            "Slurm does not answer",
        ),
        # The system, through any tool.
        (r"no space left on device|\bENOSPC\b|errno:? =? ?28\b|disk (is )?full", DiskFullError, "the disk is full"),
        (r"(disk )?quota exceeded|\bEDQUOT\b|errno:? =? ?122\b", DiskFullError, "the disk quota is used up"),
        (
            r"RegularFileIO: error in write|BucketFile:.*write|fsync failed",
            DiskFullError,
            "a table cannot be written",
        ),
        (r"error writing|could not write.*(fits|temporary)|\bwrite error", DiskFullError, "it cannot write"),
        (
            rf"{_PASSING_WORDS}|stale nfs file handle|errno:? =? ?({_PASSING_NUMBERS})\b"
            r"|RegularFileIO: error (?:in|returned by) read|bus error",
            InputOutputError,
            "the file system fails",
        ),
        (
            r"bad_alloc|(cannot|unable to) allocate|out of memory|\bMemoryError\b|oom-kill"
            r"|(not enough|insufficient) memory|exceeded (job |step )?memory limit"
            r"|errno:? =? ?12\b",
            MemoryExhaustedError,
            "there is not enough memory",
        ),
        (
            r"error while loading shared libraries: (\S+?):",
            ToolBrokenError,
            "the library {} is missing, so install it",
        ),
        (
            r"(symbol lookup error|undefined symbol|version `\S+' not found)",
            ToolBrokenError,
            "a library has the wrong version ({})",
        ),
        (
            r"(?:unknown|unrecogni[sz]ed|invalid) (?:command.line )?(?:parameter|option)s?:? *(\S*)",
            ToolBrokenError,
            "the option {} is unknown to its version",
        ),
        # CASA's table system gives up waiting for the lock of another process.
        (
            r"(acquire|waiting for|obtain).*\block\b|table .* is locked by|process is still waiting"
            r"|\btime(d)? ?out\b.*(casa|table|lock|server)",
            LockedTableError,
            "a table is locked",
        ),
        # Data that no tool can read or use.
        (
            r"unable to (synchronously )?open (file|object).*(truncated|signature)",
            TruncatedFileError,
            "it is truncated",
        ),
        (
            r"beam is neither fitted nor estimated|data selection ended with 0 rows|psf is zero|zero psf"
            r"|no (?:unflagged |valid )?data\b(?! manager)|all (the )?(data|visibilities).*flagged"
            r"|insufficient unflagged",
            NoUsableDataError,
            "there are no usable data",
        ),
    )
)
"""Table of error patterns, the more telling first: the first match counts."""


def recognized(lines: str | Iterable[str], *, passing: bool = False) -> ErrorMatch | None:
    """Recognize a known error in the output of a tool; None without a match.

    Parameters
    ----------
    lines
        Output of the tool, or text of its exception.
    passing
        Leave out permanent errors. For a whole log, with mostly routine lines: CASA prints "insufficient unflagged
        antennas" for every interval without data, however the task ends.
    """
    lines = lines.splitlines() if isinstance(lines, str) else list(lines)
    for pattern in PATTERNS:
        if passing and pattern.permanent:
            continue
        for line in lines:
            if match := pattern.pattern.search(line):
                return ErrorMatch(pattern, pattern.meaning.format(*match.groups()[:1]), line.strip("+> \t"))
    return None
