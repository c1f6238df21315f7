"""Conversion of a group in one pass: raw subbands → one Measurement Set, and its sidecar.

What belongs together is opened and laid out, the Measurement Set is made around it, its visibilities and flags come
integration by integration (`integrations`), and the sidecar says what was found.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from contimg.convert import measurement_set, writer_flags
from contimg.convert.geometry import Geometry, lay_out
from contimg.convert.integrations import Clock, Integrations
from contimg.convert.subbands import check_enough, opened
from contimg.core import trace
from contimg.core.paths import jd_to_datetime
from contimg.core.sections import Flag, Ingest
from contimg.ingest.manifest import SUBBANDS, load
from contimg.telescope.raw_header import Header

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConversionSettings:
    """Settings of a conversion: data root, fewest subbands, flagging."""

    data_root: Path
    ingest: Ingest
    flag: Flag


def convert(manifest: Path, ms: Path, settings: ConversionSettings, threads: int) -> dict[str, Any]:
    """Convert a group to a Measurement Set.

    Parameters
    ----------
    manifest
        The group's manifest; its paths are relative to `settings.data_root`.
    ms
        Path of the Measurement Set, which must not exist.
    threads
        Threads of the job.

    Returns
    -------
    dict
        Content of the sidecar: subbands that are missing, zeroed, partial (with their number of integrations) or left
        out (and why), flagged fractions, dead antennas, receivers (by antenna), phase centre, frequencies, times,
        bytes read and written, seconds by phase (added over the threads).

    Raises
    ------
    TooFewSubbandsError
        If fewer than `ingest.min_subbands` subbands can be used.
    NoUsableDataError
        If more than `flag.max_fraction` of the data is flagged.
    TruncatedFileError
        If a file ends early while being read.
    DiskFullError
        If the disk has no room for the Measurement Set.
    OSError
        If a disk fails.
    """
    clock = Clock()
    group = load(manifest)
    with ExitStack() as stack:
        with trace.step("open"), clock("open"):
            subbands = opened(group, settings.data_root, settings.ingest, stack)
            headers = subbands.headers
            geometry = lay_out(group.name, list(headers.values()), subbands.times_jd, subbands.antennas)
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        written = {number: pool.submit(_written_flags, header, clock) for number, header in headers.items()}
        integrations = Integrations(
            subbands, geometry, written, ahead=threads + 1, clock=clock, clip_sigma=settings.flag.clip_sigma
        )
        converted = integrations.converted(pool)  # while the tables are made
        with clock("create"):
            table = measurement_set.create(ms, geometry.observation)
            stack.callback(table.close)
            flush = stack.enter_context(measurement_set.flusher(table, ms))
        with trace.step("read and write"):
            integrations.write(converted, table, flush)
        zeroed = [number for number in sorted(headers) if integrations.is_zero(number)]
        for number in zeroed:
            log.warning(
                "%s: all its visibilities are zero or not finite; it is taken as missing", headers[number].path.name
            )
        check_enough(group.name, len(headers) - len(zeroed), settings.ingest)
        with trace.step("flag"), clock("flag"):
            quality = integrations.flag(zeroed, settings.flag, table, pool)
    zeroed += [number for number, subband in group.subbands.items() if subband.state == "zeroed"]
    return {
        "group": group.name,
        "missing_subbands": [n for n in range(SUBBANDS) if n not in headers and n not in zeroed],
        "zeroed_subbands": sorted(zeroed),
        "partial_subbands": {f"{number:02d}": count for number, count in sorted(subbands.partial.items())},
        "left_out": {f"{number:02d}": reason for number, reason in sorted(subbands.left_out.items())},
        "flags_not_believed": writer_flags.tell(
            group.name, {number: one.result() for number, one in written.items()}
        ),
        **quality,
        **_described(geometry, next(iter(headers.values())), subbands.times_jd),
        "bytes_read": integrations.bytes_read,
        "bytes_written": sum(path.stat().st_size for path in ms.rglob("*") if path.is_file()),
        "seconds": clock.seconds(),
    }


def _written_flags(header: Header, clock: Clock) -> writer_flags.WriterFlags:
    with clock("written flags"):
        return writer_flags.read(header)


def _described(geometry: Geometry, header: Header, times_jd: np.ndarray) -> dict[str, Any]:
    """Description of the Measurement Set for the sidecar: direction, frequencies, times, counts."""
    ra_rad, dec_rad = geometry.observation.phase_centre_rad
    half = timedelta(seconds=header.integration_s / 2)
    frequencies = geometry.observation.frequencies_hz
    return {
        "phase_centre": {"ra_deg": float(np.degrees(ra_rad)), "dec_deg": float(np.degrees(dec_rad))},
        "declination_deg": float(np.degrees(header.declination_rad)),
        "frequency_hz": [float(frequencies[0]), float(frequencies[-1])],
        "channel_width_hz": header.channel_width_hz,
        "channels": len(frequencies),
        "integrations": len(times_jd),
        "integration_s": header.integration_s,
        "start_utc": jd_to_datetime(float(times_jd[0])) - half,
        "middle_utc": jd_to_datetime(float(np.mean(times_jd))),
        "baselines": header.baselines,
        "antennas": len(np.union1d(geometry.observation.first, geometry.observation.second)),
    }
