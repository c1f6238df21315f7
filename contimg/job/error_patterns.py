"""What the words of a tool say about its failure: one table of patterns, each with the error that it means.

Errors of ours know what they are; the table is for what CASA, WSClean, AOFlagger, HDF5 and the system only print.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from contimg.core.errors import (
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
"""Classes that say no more than that it failed; the words of a tool may say more."""


@dataclass(frozen=True)
class ErrorPattern:
    """Words of a tool, the error that they mean, and the same in our words (with the pattern's first group)."""

    pattern: re.Pattern[str]
    error: type[ContimgError]
    meaning: str

    @property
    def permanent(self) -> bool:
        """Whether trying again cannot help."""
        return self.error.error_class.permanent


@dataclass(frozen=True)
class Finding:
    """A pattern that was found, and the line in which it stands."""

    pattern: ErrorPattern
    meaning: str
    line: str

    def as_error(self, subject: str, tool: str) -> ContimgError:
        """The typed error: the file or job that failed, and what the tool says of it."""
        said = f"{subject}: {tool} says that {self.meaning}"
        return self.pattern.error(f"{said} ({self.line})" if self.line else said)


PATTERNS: tuple[ErrorPattern, ...] = tuple(
    ErrorPattern(re.compile(pattern, re.IGNORECASE), error, meaning)
    for pattern, error, meaning in (
        # The system, through any tool.
        (r"no space left on device|\bENOSPC\b|errno = 28\b|disk (is )?full", DiskFullError, "the disk is full"),
        (r"(disk )?quota exceeded|\bEDQUOT\b|errno = 122\b", DiskFullError, "the disk quota is used up"),
        (
            r"RegularFileIO: error in write|BucketFile:.*write|fsync failed",
            DiskFullError,
            "a table cannot be written",
        ),
        (r"error writing|could not write.*(fits|temporary)|\bwrite error", DiskFullError, "it cannot write"),
        (
            r"input/output error|stale (nfs )?file handle|transport endpoint is not connected|read-only file system"
            r"|errno = (5|30|107|116)\b",
            InputOutputError,
            "the file system fails",
        ),
        (
            r"bad_alloc|(cannot|unable to) allocate|out of memory|\bMemoryError\b|oom-kill"
            r"|(not enough|insufficient) memory|exceeded (job |step )?memory limit",
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
            r"(?:unknown|unrecognized|invalid) (?:command.line )?(?:parameter|option)s?:? *(\S*)",
            ToolBrokenError,
            "the option {} is unknown to its version",
        ),
        (
            r"unable to contact slurm controller|slurm_load_jobs error"
            r"|batch job submission failed: (?:connection|socket)",
            ClusterAwayError,
            "Slurm does not answer",
        ),
        # CASA's table system waits for locks of others, and gives up.
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
"""The first pattern that is found counts, so the more telling ones stand first."""


def recognized(lines: str | Iterable[str], *, passing: bool = False) -> Finding | None:
    """Find what a tool's words mean; None if no pattern knows them.

    Parameters
    ----------
    lines
        What the tool printed or raised.
    passing
        Leave out errors that are permanent. For a whole log, of which most lines are routine: CASA prints
        "insufficient unflagged antennas" for every interval without data, whatever goes wrong later.
    """
    lines = lines.splitlines() if isinstance(lines, str) else list(lines)
    for pattern in PATTERNS:
        if passing and pattern.permanent:
            continue
        for line in lines:
            if match := pattern.pattern.search(line):
                return Finding(pattern, pattern.meaning.format(*match.groups()[:1]), line.strip("+> \t"))
    return None
