"""Errors: one tree of exceptions, each with its class, its retry policy and its blame.

The classes are the ones of requirement R1. How often and when a class is tried again is policy, kept in the
settings; an error only says what it is. Only what is the fault of a file or a group may put a group in quarantine.
"""

from __future__ import annotations

import errno
from enum import StrEnum


class Blame(StrEnum):
    """Party at fault for a failure; stored in attempt records."""

    FILE = "file"
    GROUP = "group"
    SET = "set"
    """The calibration: there is no set yet, or it gives nothing for the target."""
    MACHINE = "machine"
    """Disk, memory, locks, network, or a signal from outside."""
    WORKFLOW = "workflow"
    """Snakemake, the rules, or an imager that cannot run at all."""
    SETTINGS = "settings"

    @property
    def quarantines(self) -> bool:
        """Whether a group may be given up for a failure of this blame; other failures hold work until they pass."""
        return self in (Blame.FILE, Blame.GROUP)


class ErrorClass(StrEnum):
    """Kind of a failure; stored in attempt records and counted in metrics."""

    DISK_FULL = "disk_full"
    IO_ERROR = "io_error"
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

    @property
    def blame(self) -> Blame:
        """Party usually at fault for a failure of this class."""
        return _BLAMES.get(self, Blame.GROUP)


_BLAMES = {
    ErrorClass.DISK_FULL: Blame.MACHINE,
    ErrorClass.IO_ERROR: Blame.MACHINE,
    ErrorClass.CASA_TIMEOUT: Blame.MACHINE,
    ErrorClass.MEMORY_ERROR: Blame.MACHINE,
    ErrorClass.DIED: Blame.MACHINE,
    ErrorClass.MISSING_CALIBRATION: Blame.SET,
    ErrorClass.CONFIGURATION: Blame.SETTINGS,
}


def one_line(text: str) -> str:
    """A text in one line that can be shown anywhere: names of files may have any letters, and bytes of none."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(text.split()))


class ContimgError(Exception):
    """Base of every error raised on purpose. Its text is one line: object, problem, next step."""

    error_class = ErrorClass.OTHER
    at_fault: Blame | None = None
    """Party at fault, where it is not the usual one of the class."""

    @property
    def blame(self) -> Blame:
        """Party at fault."""
        return self.at_fault or self.error_class.blame

    def __str__(self) -> str:
        """Text in one line that can be shown anywhere, of any text of a library or a file."""
        return one_line(super().__str__())


class ConfigError(ContimgError):
    """A setting is unknown, of the wrong type or impossible; the text begins with the key's path."""

    error_class = ErrorClass.CONFIGURATION


class InputError(ContimgError):
    """A raw file or a group cannot be used, and never will be."""

    error_class = ErrorClass.CORRUPT_INPUT


class TruncatedFileError(InputError):
    """The file cannot be opened or read whole as HDF5: a transfer broke."""

    at_fault = Blame.FILE


class MisshapenFileError(InputError):
    """The file is HDF5 but its header or shapes are not those of a DSA-110 UVH5 file."""

    at_fault = Blame.FILE


class WrongTelescopeError(InputError):
    """The file was written by another telescope."""

    at_fault = Blame.FILE


class ClocklessFileError(InputError):
    """The correlator could not read its clock and wrote its fallback time, MJD 55000."""

    at_fault = Blame.FILE


class ZeroedSubbandError(InputError):
    """Every visibility of the subband is zero."""

    at_fault = Blame.FILE


class TooFewSubbandsError(InputError):
    """Fewer usable subbands than `ingest.min_subbands`."""


class UnreadableMeasurementSetError(InputError):
    """A Measurement Set cannot be read or is not as conversion writes it; the group is converted again, once."""


class NoUsableDataError(InputError):
    """After flagging, nothing is left to work on."""


class CatalogueError(ConfigError):
    """A catalogue or a list of sources, named in the settings or in a command, cannot be read."""


class MissingCalibrationError(ContimgError):
    """No usable calibration set within the limits; the group waits for one."""

    error_class = ErrorClass.MISSING_CALIBRATION


class UnusableSetError(MissingCalibrationError):
    """A calibration set cannot be read, or gives nothing for the target; the target waits for another."""


class DiskFullError(ContimgError):
    """A file system has no room for an output or for staging."""

    error_class = ErrorClass.DISK_FULL


class InputOutputError(ContimgError):
    """A file system answers with an error that may pass: EIO, ESTALE, ENOTCONN, read-only."""

    error_class = ErrorClass.IO_ERROR


class LockedTableError(ContimgError):
    """CASA waited too long for the lock of a table."""

    error_class = ErrorClass.CASA_TIMEOUT


class MemoryExhaustedError(ContimgError):
    """A job needed more memory than there is."""

    error_class = ErrorClass.MEMORY_ERROR


class ToolFailedError(ContimgError):
    """CASA or WSClean ended with an error or without its output."""

    error_class = ErrorClass.TOOL_FAILED


class ToolBrokenError(ToolFailedError):
    """A program or library that a job needs cannot run: an unknown option, a missing library, a crash."""

    at_fault = Blame.WORKFLOW


class WorkflowError(ContimgError):
    """Snakemake failed as a whole, and no job recorded why."""

    at_fault = Blame.WORKFLOW


class JobTimeoutError(ContimgError):
    """A job passed its time limit and was killed with its process tree."""

    error_class = ErrorClass.TIMEOUT_KILLED


class JobStarvedError(JobTimeoutError):
    """A job was killed late or idle through its machine's fault: no processor, program, disk or mount answered."""

    at_fault = Blame.MACHINE


class JobDiedError(ContimgError):
    """A job's process ended without a word, by a signal from outside."""

    error_class = ErrorClass.DIED


class ClusterAwayError(ContimgError):
    """Slurm does not answer, so neither can jobs be submitted nor are the states of submitted ones known."""

    error_class = ErrorClass.DIED


class JobCrashedError(JobDiedError):
    """A job's process ended without a word, by a crash of its own."""

    at_fault = Blame.GROUP


class MissingOutputError(JobCrashedError):
    """A job ended well but without one of its outputs."""


class UnsafePathError(ContimgError):
    """A path leads out of the data root, or is not a plain file or folder; it is left alone."""

    at_fault = Blame.FILE


class BundleError(ContimgError):
    """An archive or a snapshot cannot be read whole or does not hold what it says; nothing was changed."""

    at_fault = Blame.FILE


class StoreError(ContimgError):
    """Cold storage or a backup's remote could not be reached, read or written; the originals stay."""

    at_fault = Blame.MACHINE


class ChangedError(ContimgError):
    """A file changed while it was being archived; it stays, and its turn comes again."""

    at_fault = Blame.FILE


class BusyError(ContimgError):
    """Another process is doing the same on this data root."""

    at_fault = Blame.MACHINE


class LedgerError(ContimgError):
    """The ledger is absent, damaged or of another version; it is an index, built again from the files."""

    at_fault = Blame.MACHINE


class LeaseError(ContimgError):
    """The lease on the data root is another runner's, was lost, or cannot be read."""

    at_fault = Blame.MACHINE


class HeldError(LeaseError):
    """Another runner is at work on the data root."""


class ImpossibleTransitionError(ContimgError):
    """An event cannot happen to a group or window in its state; its row stays as it is."""

    at_fault = Blame.WORKFLOW


class QuarantineError(ContimgError):
    """A group is not in quarantine, or cannot leave it."""


PASSING = frozenset(
    (
        errno.EIO,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ESHUTDOWN,
        errno.EREMOTEIO,
        errno.ENOLINK,
        errno.ENODATA,
        errno.EBADMSG,
        errno.EUCLEAN,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOLCK,
        errno.EBUSY,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EMFILE,
        errno.ENFILE,
        errno.EAGAIN,
        errno.EFBIG,
    )
)
"""Errors of the operating system that are the machine's, not the file's: of disks, mounts, networks and limits."""


def in_words(error: BaseException) -> str:
    """Text of any exception for a message to people: one line, a missing key named, no class of Python's."""
    if isinstance(error, KeyError) and error.args:
        said = str(error.args[0])
        return said if " " in said else f"{said} is missing"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or "no reason was given"


def is_full(error: OSError) -> bool:
    """Whether an operating system's error says that a disk, its inodes or a quota on it are used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_passing(error: OSError) -> bool:
    """Whether an operating system's error is the machine's and may pass."""
    return error.errno in PASSING


class InstallationError(ContimgError):
    """The service could not be installed on this host."""

    error_class = ErrorClass.CONFIGURATION


class DeploymentError(ContimgError):
    """A release could not take over; the one before it is in use."""

    error_class = ErrorClass.CONFIGURATION
