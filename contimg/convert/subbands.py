"""Subbands of a group that are converted together: the majority's layout, and the integrations of each.

A file that turned bad since the scan, is stored in another way than the correlator's, or differs from the others in
stations, baselines, times or shape is left out by name. A subband that began late or was closed early lacks some
integrations and keeps the others. A failing disk or mount is no fault of a file: the conversion fails, and is tried
again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contimg.core.errors import ContimgError, InputError, InputOutputError, TooFewSubbandsError
from contimg.core.sections import Ingest
from contimg.ingest.grouping import IntegrationRange, coverage, steps_after, used
from contimg.ingest.incoming import has_raw_files
from contimg.ingest.manifest import SUBBANDS, Frame, Group
from contimg.telescope.raw_header import Antennas, Header, read_antennas, read_header
from contimg.telescope.raw_visibilities import RawVisibilities

log = logging.getLogger(__name__)

_SAME_TIME_S = 1e-3
"""Largest difference (s) of a file's times from its group's; a Julian date is exact to 0.04 ms."""


@dataclass(frozen=True, eq=False)
class Subbands:
    """Subbands that are converted together, by number.

    Attributes
    ----------
    headers
        Headers, each with the integrations of its own file.
    times_jd
        Centres of the group's integrations (UTC Julian dates), shape (T,).
    late
        Number of the group's integration in which each file begins; negative where it begins earlier.
    antennas
        Stations and baselines common to all.
    raw
        Visibilities, open for reading.
    left_out
        Reasons for which good files of the manifest are not used.
    """

    headers: Mapping[int, Header]
    times_jd: np.ndarray
    late: Mapping[int, int]
    antennas: Antennas
    raw: Mapping[int, RawVisibilities]
    left_out: Mapping[int, str]

    def row(self, number: int, integration: int) -> int | None:
        """First row of the group's integration in a subband's file; None where the file lacks the integration."""
        header, own = self.headers[number], integration - self.late[number]
        return own * header.baselines if 0 <= own < header.integrations else None

    @property
    def partial(self) -> dict[int, int]:
        """Subbands that lack some of the group's integrations, with the number of those that they have."""
        held = {
            number: sum(self.row(number, t) is not None for t in range(len(self.times_jd))) for number in self.headers
        }
        return {number: count for number, count in held.items() if count < len(self.times_jd)}


def opened(group: Group, root: Path, ingest: Ingest, stack: ExitStack) -> Subbands:
    """Open the good subbands of a group that agree with the majority.

    Parameters
    ----------
    group
        Group as its manifest has it.
    root
        The data root.
    ingest
        `min_subbands` is used.
    stack
        Exit stack that closes the files.

    Raises
    ------
    TooFewSubbandsError
        If fewer than `ingest.min_subbands` can be used.
    InputOutputError
        If no raw file is there at all.
    ContimgError
        If a file is gone.
    OSError
        If a file cannot be read now.
    """
    headers: dict[int, Header] = {}
    antennas: dict[int, Antennas] = {}
    raw: dict[int, RawVisibilities] = {}
    left_out: dict[int, str] = {}
    for number, subband in group.good.items():
        try:
            header = read_header(root / str(subband.path))
            antennas[number] = read_antennas(header.path, header)
            raw[number] = stack.enter_context(RawVisibilities(header))
            headers[number] = header
        except InputError as error:
            left_out[number] = str(error)
        except FileNotFoundError as error:
            raise _gone(root / str(subband.path)) from error
    check_enough(group.name, len(headers), ingest)

    def leave_out(number: int, what: str) -> None:
        name = headers.pop(number).path.name
        left_out[number] = f"{name}: its {what} are not those of most of its group; it is left out"

    for likeness, what in (
        (lambda number: _shape(headers[number]), "channels, polarizations or pointing"),
        (lambda number: _stations(antennas[number]), "stations or baselines"),
    ):
        likenesses = {number: likeness(number) for number in headers}
        ((usual, _),) = Counter(likenesses.values()).most_common(1)
        for number in [number for number, found in likenesses.items() if found != usual]:
            leave_out(number, what)
    frame = _frame(group)
    late = {number: steps_after(header.start_jd, frame) for number, header in headers.items()}
    times_jd = _times(headers, late, frame, ingest.min_subbands)
    for number in [number for number, header in headers.items() if _astray(header, late[number], times_jd)]:
        leave_out(number, "times")
    for reason in left_out.values():
        log.warning("%s", reason)
    check_enough(group.name, max(coverage(_spans(headers, late))), ingest)
    found = Subbands(
        headers,
        times_jd,
        late,
        antennas[next(iter(headers))],
        {number: raw[number] for number in headers},
        left_out,
    )
    for number, count in found.partial.items():
        log.warning("%s: has %d of %d integrations", headers[number].path.name, count, len(times_jd))
    return found


def _gone(path: Path) -> ContimgError:
    """Error for a raw file that is gone: the machine's where all are, as of a disk that is not mounted."""
    if has_raw_files(path.parent):
        return ContimgError(f"{path.name}: is gone from incoming/; its group is taken up again when the file is back")
    return InputOutputError(
        f"{path.parent}: has no raw files, perhaps its disk is not mounted; they are tried again later"
    )


def _frame(group: Group) -> Frame:
    if group.frame is None:
        raise TooFewSubbandsError(f"{group.name}: no file says when it was observed; the group is set aside")
    return group.frame


def _spans(headers: Mapping[int, Header], late: Mapping[int, int]) -> list[IntegrationRange]:
    return [IntegrationRange(late[number], late[number] + header.integrations) for number, header in headers.items()]


def _times(headers: Mapping[int, Header], late: Mapping[int, int], frame: Frame, min_subbands: int) -> np.ndarray:
    """Centres of the group's integrations: those of most of its files, which are alike to the bit."""
    integrations = used(_spans(headers, late), min_subbands)
    times = np.full((len(headers), integrations), np.nan)
    for row, (number, header) in zip(times, headers.items(), strict=True):
        first = max(0, late[number])
        own = header.times_jd[first - late[number] :][: max(0, integrations - first)]
        row[first : first + len(own)] = own
    expected = frame.start_jd + np.arange(integrations) * frame.integration_s / 86400
    there = np.isfinite(times).any(axis=0)
    expected[there] = np.nanmedian(times[:, there], axis=0)
    return expected


def _astray(header: Header, late: int, times_jd: np.ndarray) -> bool:
    """Whether a file's times differ from its group's, or none of them is its group's."""
    first, stop = max(0, late), min(len(times_jd), late + header.integrations)
    if first >= stop:
        return True
    off_s = np.abs(header.times_jd[first - late : stop - late] - times_jd[first:stop]) * 86400
    return bool(off_s.max() > _SAME_TIME_S)


def check_enough(name: str, usable: int, ingest: Ingest) -> None:
    """Refuse a group with fewer usable subbands than `min_subbands`.

    Raises
    ------
    TooFewSubbandsError
        If there are fewer.
    """
    if usable < ingest.min_subbands:
        raise TooFewSubbandsError(
            f"{name}: {usable} of {SUBBANDS} subbands can be used, {ingest.min_subbands} are needed; "
            "the group is set aside"
        )


def _shape(header: Header) -> Hashable:
    """Form of a file's data; writers of different versions round declination and integration time differently."""
    return (
        header.channels,
        header.polarizations,
        round(header.declination_rad, 8),
        header.site,
        round(header.integration_s, 1),
        header.baselines,
    )


def _stations(antennas: Antennas) -> Hashable:
    arrays = (antennas.numbers, antennas.positions_m, antennas.diameters_m, antennas.first, antennas.second)
    return (antennas.names, *(array.tobytes() for array in arrays))
