"""What the text that a tool leaves behind says about the class of its failure.

Errors of ours know their class; this table is for what CASA, WSClean, AOFlagger and the system only print. The first
pattern that is found counts, so the more telling ones stand first.
"""

from __future__ import annotations

import re

from contimg.core.errors import ErrorClass

UNTOLD = frozenset({ErrorClass.OTHER, ErrorClass.TOOL_FAILED, ErrorClass.DIED})
"""Classes that say no more than that it failed."""

PATTERNS: tuple[tuple[re.Pattern[str], ErrorClass], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), error_class)
    for pattern, error_class in (
        # The system, through any of them.
        (r"no space left on device|disk quota exceeded|\bENOSPC\b|\bEDQUOT\b", ErrorClass.DISK_FULL),
        (r"RegularFileIO: error in write|BucketFile:.*write|fsync failed", ErrorClass.DISK_FULL),  # casacore
        (r"error writing (to )?(the )?fits|could not write.*(fits|temporary)", ErrorClass.DISK_FULL),  # WSClean
        (r"std::bad_alloc|cannot allocate memory|out of memory|\bMemoryError\b|oom-kill", ErrorClass.MEMORY_ERROR),
        (r"not enough memory|insufficient memory|unable to allocate", ErrorClass.MEMORY_ERROR),  # WSClean, NumPy
        # CASA's table system waits for locks of others, and gives up.
        (
            r"(acquire|waiting for|obtain).*\block\b|table .* is locked by|process is still waiting",
            ErrorClass.CASA_TIMEOUT,
        ),
        (r"\btime(d)? ?out\b.*(casa|table|lock|server)", ErrorClass.CASA_TIMEOUT),
        # Data that no tool can read.
        (r"unable to (synchronously )?open (file|object).*(truncated|signature)", ErrorClass.CORRUPT_INPUT),  # HDF5
        (r"table .* does not exist.*\.ms|invalid table|TableError: .*(corrupt|damaged)", ErrorClass.TOOL_FAILED),
        (
            r"no unflagged data|all (the )?(data|visibilities).*flagged",
            ErrorClass.CORRUPT_INPUT,
        ),  # AOFlagger, WSClean
    )
)


def classify(known: ErrorClass, text: str) -> ErrorClass:
    """Class of a failure: the one that is known, unless it says nothing and the text says more."""
    if known not in UNTOLD:
        return known
    for pattern, error_class in PATTERNS:
        if pattern.search(text):
            return error_class
    return known
