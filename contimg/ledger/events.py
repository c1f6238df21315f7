"""Events in the life of a group or window, and the instructions that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

from contimg.core.errors import Blame, ErrorClass

# Events in the life of a group; those of the machine concern windows, too


@dataclass(frozen=True)
class Arrived:
    """The scan found files of the group that are new or changed.

    Attributes
    ----------
    state
        Of its manifest: collecting, complete, incomplete or unusable.
    arrived
        When its newest file came (Unix, s).
    manifest_ns
        Time of modification of its manifest, which moves when the group has to be processed again.
    """

    state: str
    reason: str
    arrived: float
    raw_bytes: int
    manifest_ns: int
    window: str


@dataclass(frozen=True)
class FilesGone:
    """The group's files belong to another group, as their headers say; its manifest was removed."""


@dataclass(frozen=True)
class JobDone:
    """A stage was made. `calibrator` and `age_hours` are what detection and imaging found."""

    stage: str
    calibrator: str = ""
    age_hours: float | None = None


@dataclass(frozen=True)
class JobFailed:
    """A job of a stage failed, or found that it has nothing to work with.

    Attributes
    ----------
    counts
        Whether it counts as a try of the group; a call that was stopped or made as a probe does not.
    """

    stage: str
    error_class: ErrorClass
    blame: Blame
    message: str
    counts: bool = True


@dataclass(frozen=True)
class CallFailed(JobFailed):
    """The call failed as a whole, and no job says why: never the group's fault."""


@dataclass(frozen=True)
class MeasurementSetUnreadable(JobFailed):
    """The job could not read the Measurement Set, and the raw files are there to make it again."""


@dataclass(frozen=True)
class Interrupted:
    """The runner that had the group in a call died."""


@dataclass(frozen=True)
class SetMade:
    """A set came that serves the group, which waits for one, or is worth making its image again, from `stage` on."""

    stage: str


@dataclass(frozen=True)
class Reprocess:
    """The group has its image, which is asked for again, from `stage` on."""

    stage: str


@dataclass(frozen=True)
class ProductLost:
    """The product of an earlier stage is gone (a set, a Measurement Set): it is made again."""

    stage: str


@dataclass(frozen=True)
class FoundInQuarantine:
    """The group's files lie in quarantine, as `reason.json` there says."""

    stage: str
    reason: str
    error_class: str
    since: float


@dataclass(frozen=True)
class Released:
    """The group's files are back from quarantine."""


@dataclass(frozen=True)
class DiskFreed:
    """Free disk space came back after a full disk."""


@dataclass(frozen=True)
class LaneRecovered:
    """A lane works again in which several groups or windows, this one among them, had failed in a row."""

    lane: str


@dataclass(frozen=True)
class SettingsChanged:
    """Some sections of the settings changed."""

    sections: frozenset[str]


@dataclass(frozen=True)
class ClockStepped:
    """The wall clock was put forward (s; negative: back)."""

    seconds: float


GroupEvent = (
    Arrived
    | FilesGone
    | JobDone
    | JobFailed
    | Interrupted
    | SetMade
    | Reprocess
    | ProductLost
    | FoundInQuarantine
    | Released
    | DiskFreed
    | LaneRecovered
    | SettingsChanged
    | ClockStepped
)


# Events in the life of a window


@dataclass(frozen=True)
class ImageMade:
    """An image of the window is new."""


@dataclass(frozen=True)
class MosaicMade:
    """The mosaic was made; `missed` is when the first image came that it may not have (Unix, s)."""

    missed: float | None = None


@dataclass(frozen=True)
class MosaicFailed:
    """The mosaic's job failed."""

    error_class: ErrorClass
    blame: Blame
    message: str
    counts: bool = True
    whole_call: bool = False
    """Whether the call failed as a whole, and no job says why."""


WindowEvent = (
    ImageMade
    | MosaicMade
    | MosaicFailed
    | Interrupted
    | Released
    | DiskFreed
    | LaneRecovered
    | SettingsChanged
    | ClockStepped
)


# Instructions


@dataclass(frozen=True)
class TouchWindow:
    """The window has an image that its mosaic does not have."""

    window: str


@dataclass(frozen=True)
class PutInQuarantine:
    """The group's raw files go to quarantine."""

    group: str
    stage: str
    reason: str
    error_class: str


@dataclass(frozen=True)
class DiscardMeasurementSet:
    """The group's Measurement Set is removed, so that it is made again."""

    group: str


@dataclass(frozen=True)
class Release:
    """The group's raw files come back from quarantine."""

    group: str


@dataclass(frozen=True)
class RegisterSet:
    """The group's new set is entered, and wakes what it can serve."""

    group: str


@dataclass(frozen=True)
class Tell:
    """People may want to know; `kind` is a key of `contimg.alerts.conditions.EVENTS`."""

    kind: str
    subject: str
    text: str


@dataclass(frozen=True)
class MarkSummaryStale:
    """The summary has to be made again."""


Instruction = TouchWindow | PutInQuarantine | DiscardMeasurementSet | Release | RegisterSet | Tell | MarkSummaryStale
