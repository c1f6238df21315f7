"""One exception tree; each error knows its class, and the class says whether trying again can help.

The classes are the ones of requirement R1. How often and when a class is tried again is policy, kept in the
settings; an error only says what it is.
"""

from __future__ import annotations

import errno
from enum import StrEnum


class ErrorClass(StrEnum):
    """What kind of failure it was; stored in attempt records and counted in metrics."""

    DISK_FULL = "disk_full"
    CASA_TIMEOUT = "casa_timeout"
    MEMORY_ERROR = "memory_error"
    CORRUPT_INPUT = "corrupt_input"
    MISSING_CALIBRATION = "missing_calibration"
    CONFIGURATION = "configuration"
    TOOL_FAILED = "tool_failed"
    TIMEOUT_KILLED = "timeout_killed"
    DIED = "died"
    OTHER = "other"

    @property
    def permanent(self) -> bool:
        """Whether the same inputs and settings must fail again."""
        return self in (ErrorClass.CORRUPT_INPUT, ErrorClass.CONFIGURATION)


class ContimgError(Exception):
    """Base of every error raised on purpose. Its text is one line: which file, what is wrong, what happens next."""

    error_class = ErrorClass.OTHER


class ConfigError(ContimgError):
    """A setting is unknown, of the wrong type or impossible; the text begins with the key's path."""

    error_class = ErrorClass.CONFIGURATION


class InputError(ContimgError):
    """A raw file or a group cannot be used, and never will be."""

    error_class = ErrorClass.CORRUPT_INPUT


class TruncatedFileError(InputError):
    """The file cannot be opened or read whole as HDF5: a transfer broke."""


class MisshapenFileError(InputError):
    """The file is HDF5 but its header or shapes are not those of a DSA-110 UVH5 file."""


class WrongTelescopeError(InputError):
    """The file was written by another telescope."""


class ClocklessFileError(InputError):
    """The correlator could not read its clock and wrote its fallback time, MJD 55000."""


class ZeroedSubbandError(InputError):
    """Every visibility of the subband is zero."""


class TooFewSubbandsError(InputError):
    """Fewer usable subbands than `ingest.min_subbands`."""


class NoUsableDataError(InputError):
    """After flagging, nothing is left to work on."""


class CatalogueError(ConfigError):
    """A catalogue or a list of sources, named in the settings or in a command, cannot be read."""


class MissingCalibrationError(ContimgError):
    """No usable calibration set within the limits; the group waits for one."""

    error_class = ErrorClass.MISSING_CALIBRATION


class DiskFullError(ContimgError):
    """A file system has no room for an output or for staging."""

    error_class = ErrorClass.DISK_FULL


class MemoryExhaustedError(ContimgError):
    """A job needed more memory than there is."""

    error_class = ErrorClass.MEMORY_ERROR


class ToolFailedError(ContimgError):
    """CASA or WSClean ended with an error or without its output."""

    error_class = ErrorClass.TOOL_FAILED


class JobTimeoutError(ContimgError):
    """A job passed its time limit and was killed with its process tree."""

    error_class = ErrorClass.TIMEOUT_KILLED


class JobDiedError(ContimgError):
    """A job's process ended without a word: a signal or a crash."""

    error_class = ErrorClass.DIED


class UnsafePathError(ContimgError):
    """A path leads out of the data root, or is not a plain file or folder; it is left alone."""


class BundleError(ContimgError):
    """An archive or a snapshot cannot be read whole or does not hold what it says; nothing was changed."""


class StoreError(ContimgError):
    """Cold storage or a backup's remote could not be reached, read or written; what was to be copied stays."""


class ChangedError(ContimgError):
    """A file changed while it was being archived; it stays, and its turn comes again."""


class BusyError(ContimgError):
    """Another process is doing the same on this data root."""


class LedgerError(ContimgError):
    """The ledger is absent, damaged or of another version; it is an index, built again from the files."""


class LeaseError(ContimgError):
    """Another runner holds the data root, or this one no longer does, or nobody knows."""


class HeldError(LeaseError):
    """Another runner is at work on the data root."""


class QuarantineError(ContimgError):
    """A group is not in quarantine, or cannot leave it."""


def is_full(error: OSError) -> bool:
    """Whether an operating system's error says that a disk is full, or the part of it that one may use."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
