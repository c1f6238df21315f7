"""Subbands of a group that are converted together: the majority's layout, and the integrations common to all.

A file that turned bad since the scan, is stored in another way than the correlator's, or differs from the others in
stations, baselines, times or shape is left out by name. A failing disk or mount is no fault of a file: the
conversion fails, and is tried again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from contimg.core.errors import InputError, TooFewSubbandsError
from contimg.core.sections import Ingest
from contimg.ingest.grouping import common_integrations
from contimg.ingest.manifest import SUBBANDS, Group
from contimg.telescope.raw_header import Antennas, Header, read_antennas, read_header
from contimg.telescope.raw_visibilities import RawVisibilities

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Subbands:
    """Subbands that are converted together, by number.

    Attributes
    ----------
    headers
        Headers, with the integrations common to all.
    antennas
        Stations and baselines common to all.
    raw
        Visibilities, open for reading.
    left_out
        Reasons for which good files of the manifest are not used.
    """

    headers: Mapping[int, Header]
    antennas: Antennas
    raw: Mapping[int, RawVisibilities]
    left_out: Mapping[int, str]


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
    check_enough(group.name, len(headers), ingest)

    def keep(likeness: Callable[[int], Hashable], what: str) -> None:
        """Leave out the subbands that differ from the majority."""
        likenesses = {number: likeness(number) for number in headers}
        ((usual, _),) = Counter(likenesses.values()).most_common(1)
        for number, found in likenesses.items():
            if found != usual:
                name = headers.pop(number).path.name
                left_out[number] = f"{name}: its {what} are not those of most of its group; it is left out"

    keep(lambda number: _shape(headers[number]), "channels, polarizations or pointing")
    keep(lambda number: _stations(antennas[number]), "stations or baselines")
    common = common_integrations([header.integrations for header in headers.values()])
    keep(lambda number: headers[number].times_jd[:common].tobytes(), f"first {common} times")
    for reason in left_out.values():
        log.warning("%s", reason)
    check_enough(group.name, len(headers), ingest)
    return Subbands(
        {number: replace(header, times_jd=header.times_jd[:common]) for number, header in headers.items()},
        antennas[next(iter(headers))],
        {number: raw[number] for number in headers},
        left_out,
    )


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
    return (
        header.channels,
        header.polarizations,
        header.declination_rad,
        header.site,
        header.integration_s,
        header.baselines,
    )


def _stations(antennas: Antennas) -> Hashable:
    arrays = (antennas.numbers, antennas.positions_m, antennas.diameters_m, antennas.first, antennas.second)
    return (antennas.names, *(array.tobytes() for array in arrays))
