"""Findings on raw data: one for each assumption, with its verdict and the setting to change."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Assumption(StrEnum):
    """Line of the page: an assumption on the raw data."""

    FILES = "files"
    """Subbands of the group: all there, whole, of the right shape."""
    LAYOUT = "layout"
    """Header and storage as conversion reads them: complex64, uncompressed."""
    NAMES = "names"
    """Wall clock in the files' names against the start of the data."""
    START = "start"
    """First time of every subband, bit by bit the same."""
    CLOCK = "clock"
    """Times as a correlator with a clock writes them."""
    TELESCOPE = "telescope"
    """Name, instrument, dishes, and position of the array's centre."""
    BANDS = "bands"
    """Frequencies of each subband."""
    CHANNELS = "channels"
    """Order and width of the channels."""
    INTEGRATION = "integration"
    """Number and length of the integrations."""
    CADENCE = "cadence"
    """Time from group to group."""
    POLARIZATIONS = "polarizations"
    """Correlation products and their order."""
    STATIONS = "stations"
    """Antenna names, numbers and positions against the station list."""
    BASELINES = "baselines"
    """Pairs of antennas: complete, with autocorrelations, in one order for all integrations."""
    DECLINATION = "declination"
    """Pointing: the same in both places of the header."""
    PHASE_CENTRE = "phase centre"
    """Description of the meridian phase centre in the header."""
    UVW = "uvw"
    """Baseline coordinates against antenna positions towards the meridian."""
    FLAGS = "flags"
    """Flags of the writer."""
    NSAMPLES = "nsamples"
    """Correlator dumps in a visibility."""
    VALUES = "values"
    """Visibilities that are finite and not zero."""
    LEVELS = "levels"
    """Autocorrelations, by subband."""
    NOISE = "noise"
    """Noise of cross-correlations against the radiometer equation."""
    ANTENNAS = "antennas"
    """Antennas with a signal."""
    FRINGE_STOPPING = "fringe stopping"
    """Course of a bright source's phases through the group."""
    POSITION = "position"
    """Position of that source, from the delays across the array."""
    CALIBRATION = "calibration"
    """Trial calibration on that source."""
    UNITS = "units"
    """System equivalent flux density (SEFD) from autocorrelations and gains."""


class Assessment(StrEnum):
    """Verdict on one line."""

    GOOD = "good"
    OLDER = "older"
    """Form of an older writer of this telescope, which is read correctly."""
    UNKNOWN = "unknown"
    """Not measurable from this folder."""
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """Finding on one line: the expected, the found, and the setting or place to change where they differ."""

    line: Assumption
    verdict: Assessment
    expected: str
    found: str
    to_set: str = ""


def judged(line: Assumption, good: bool, expected: str, found: str, to_set: str) -> Finding:
    """Finding that is good or wrong."""
    return Finding(line, Assessment.GOOD if good else Assessment.WRONG, expected, found, "" if good else to_set)
