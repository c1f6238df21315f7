"""Check of a folder's raw data against the assumptions of the pipeline."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from contimg.core.errors import InputError
from contimg.core.sections import Beam, Calibration
from contimg.first_light import headers, raw_group, sky
from contimg.first_light.data import Signals
from contimg.first_light.findings import Assumption, Finding

_LOG = logging.getLogger(__name__)


def check(folder: Path, calibration: Calibration, primary_beam: Beam) -> tuple[str, list[Finding]]:
    """Test every assumption on the newest of the folder's largest groups.

    Parameters
    ----------
    folder
        Folder of raw files, which are not changed.
    calibration, primary_beam
        Sections `calibration` and `beam` of the settings.

    Returns
    -------
    group : str
        Name of the first file.
    findings : list of Finding
        Finding for each `Assumption`, in that order.

    Raises
    ------
    NoUsableDataError
        If no raw file can be read.
    CatalogueError
        If a calibrator catalogue cannot be read.
    """
    group = raw_group.read(folder)
    first = group.first
    antennas = np.unique([first.head[name][: first.baselines] for name in ("ant_1_array", "ant_2_array")])
    bright = sky.brightest(group, calibration, primary_beam)
    source = None
    if bright:
        positions = np.asarray(first.head["antenna_positions"], float)
        where = np.searchsorted(first.head["antenna_numbers"], antennas)
        source = sky.SourceFringes(*bright, antennas, positions[where], first.times_jd, first.declination_rad)
    signals = Signals(antennas)
    pairs = [first.head[name][: first.baselines] for name in ("ant_1_array", "ant_2_array")]
    for subband, file in group:
        same = all(
            np.array_equal(file.head[name][: file.baselines], pair)
            for name, pair in zip(("ant_1_array", "ant_2_array"), pairs, strict=True)
        )
        if not same or file.shape != first.shape:
            _LOG.warning("%s: its baselines or shape are not the group's; its data are not looked at", file.path.name)
            continue
        try:
            visibilities = file.data("visdata")
            signals.add(subband, file, visibilities)
        except (InputError, OSError) as error:
            group.unreadable[file.path.name] = str(error)
            continue
        if source:
            source.add(subband, file, visibilities)
    found = [*headers.findings(group), *signals.findings()]
    if source and source.turned:
        found += source.findings(group, signals.auto, signals.alive)
    else:
        found += sky.unknown("no calibrator of the catalogue is in the beam")
    order = list(Assumption)
    return first.path.name, sorted(found, key=lambda finding: order.index(finding.line))
