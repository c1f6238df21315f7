"""Findings from a bright source in the beam: its fringes, its position, and a trial calibration on it.

A raw file holds conj(g₁)·g₂·V, with V ∝ exp 2πi(d₂ − d₁)ν/c and d an antenna's coordinates along the source's
direction. Even uncalibrated, the phases of a baseline turned to the source stand still, if the fringe stopping is as
assumed; the coherent share of the power is compared with that for other ways of fringe stopping.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from contimg.calibrators.transit_geometry import BAND_CENTRE_HZ, mean_response, offsets
from contimg.catalogues import calibrator_catalogue
from contimg.catalogues.calibrator import Calibrator
from contimg.core.sections import Beam, Calibration
from contimg.core.units import MAD_TO_SIGMA, SPEED_OF_LIGHT
from contimg.first_light.findings import Assessment, Assumption, Finding, judged
from contimg.first_light.raw_group import RawGroup, SubbandFile
from contimg.ingest.pointing_track import Drift
from contimg.solve import antenna_gains
from contimg.telescope import beam, dsa110, meridian, stations
from contimg.visibilities import model

_LEAST_SIGNIFICANCE = 10.0
"""Expected significance of fringes (standard deviations) from which a source is searched."""
_FOUND_SIGNIFICANCE, _FOUND_SHARE = 6.0, 0.05
"""Least significance of detected fringes, and its least share of the expected significance."""
_LEAST_TURNS = 1.5
"""Least turns of phase through the group for a baseline to tell ways of fringe stopping apart."""
_LEAST_SOLVED = 0.7
_MIN_SNR = 3.0
_SEFD_FACTOR = 1.7
_POSITION_RAD, _TELLING_RAD = np.radians([0.1, 0.5])
"""Largest accepted offset of the source, and largest four standard deviations of a meaningful offset (rad)."""
_MERIDIAN, _CONJUGATE, _TRACKED = "stopped on the meridian", "conjugated", "tracked"
_LINES = {
    Assumption.FRINGE_STOPPING: f"the source's phases stand still, once turned to it: {_MERIDIAN}",
    Assumption.POSITION: f"the source at its place, within {np.degrees(_POSITION_RAD) * 60:.0f}′",
    Assumption.CALIBRATION: f"gains over the noise for {_LEAST_SOLVED:.0%} of the antennas with a signal",
    Assumption.UNITS: f"SEFD within a factor of {_SEFD_FACTOR:g} of {dsa110.SEFD_JY:g} Jy",
}


def brightest(group: RawGroup, calibration: Calibration, primary_beam: Beam) -> tuple[Calibrator, float] | None:
    """Calibrator with the largest apparent flux (Jy, mean over the drift) in a group's beam; None if there is none.

    Raises
    ------
    CatalogueError
        If a catalogue named in the settings cannot be read.
    """
    file = group.first
    if not np.isfinite(file.declination_rad):
        return None
    drift = Drift(
        float(file.times_jd[0]), file.integrations, dsa110.INTEGRATION_S, float(np.degrees(file.declination_rad))
    )
    sources = calibrator_catalogue.load(calibration)
    directions = (np.radians([getattr(source, name) for source in sources]) for name in ("ra_deg", "dec_deg"))
    response = mean_response(beam.of(primary_beam), *offsets(drift, *directions))
    apparent = response * [float(source.flux(BAND_CENTRE_HZ)) for source in sources]
    if not len(apparent) or not apparent.max() > 0:
        return None
    return sources[int(apparent.argmax())], float(apparent.max())


@dataclass
class SourceFringes:
    """Fringes of a bright source, gathered subband by subband.

    Attributes
    ----------
    calibrator, apparent_jy
        Source, and its flux through the beam at the band's middle.
    antennas
        Zero-based numbers of the antennas that baselines have, shape (A,).
    positions_m
        Positions of these antennas, shape (A, 3).
    times_jd, declination_rad
        Times and pointing declination of the group.
    """

    calibrator: Calibrator
    apparent_jy: float
    antennas: np.ndarray
    positions_m: np.ndarray
    times_jd: np.ndarray
    declination_rad: float
    coherence: dict[str, list[float]] = field(default_factory=dict)
    turned: dict[int, np.ndarray] = field(default_factory=dict)
    cells: int = 0
    baselines: tuple[np.ndarray, np.ndarray] = (np.zeros(0, int), np.zeros(0, int))

    def __post_init__(self) -> None:
        """Compute the antennas' delays (m) towards the source, shape (T, A), for each way of fringe stopping."""
        direction = np.radians(self.calibrator.ra_deg), np.radians(self.calibrator.dec_deg)
        app_ra, app_dec = meridian.icrs_to_apparent(self.times_jd, *direction)
        east_angle = app_ra - meridian.sidereal_time(self.times_jd)
        sin0, cos0 = np.sin(self.declination_rad), np.cos(self.declination_rad)
        cosines = np.stack(
            [
                np.cos(app_dec) * np.sin(east_angle),
                np.sin(app_dec) * cos0 - np.cos(app_dec) * sin0 * np.cos(east_angle),
                np.sin(app_dec) * sin0 + np.cos(app_dec) * cos0 * np.cos(east_angle) - 1,
            ]
        )
        self.uvw_m = meridian.meridian_uvw(self.positions_m, self.declination_rad)
        stopped = (self.uvw_m @ cosines).T
        centre = meridian.group_centre(self.times_jd, self.declination_rad)
        fixed = model.direction_cosines(np.array([direction[0]]), np.array([direction[1]]), centre)[0]
        tracked = meridian.icrs_uvw(self.positions_m, self.times_jd, *centre) @ fixed
        self.delays_m = {_MERIDIAN: stopped, _CONJUGATE: -stopped, _TRACKED: tracked}
        self.moved = float(np.ptp(cosines[0]))

    def add(self, subband: int, file: SubbandFile, visibilities: np.ndarray) -> None:
        """Add a subband's visibilities, shape (T, B, F, P)."""
        first, second = (
            np.searchsorted(self.antennas, file.head[name][: file.baselines])
            for name in ("ant_1_array", "ant_2_array")
        )
        cross = first != second
        first, second = first[cross], second[cross]
        frequencies = file.frequencies_hz
        values = np.where(np.isfinite(visibilities), visibilities, 0)[:, cross].conj()
        turns = (
            np.abs(self.uvw_m[first, 0] - self.uvw_m[second, 0]) * self.moved * frequencies.mean() / SPEED_OF_LIGHT
        )
        telling = turns > _LEAST_TURNS
        power = (values[:, telling].real ** 2 + values[:, telling].imag ** 2).sum(axis=0)
        for way, delay_m in self.delays_m.items():
            used = slice(None) if way is _MERIDIAN else telling
            phasors = model.antenna_phasors(delay_m.ravel(), frequencies).reshape(*delay_m.shape, -1)
            phasors = phasors.astype(np.complex64)
            total = np.zeros(values[0][used].shape, np.complex64)
            for moment, turning in zip(values, phasors, strict=True):
                total += moment[used] * (turning[first[used]].conj() * turning[second[used]])[..., np.newaxis]
            if way is _MERIDIAN:
                # Ascending in frequency: subbands and their channels both descend.
                order = np.argsort(frequencies)
                self.turned[subband] = total[:, order] / len(values)
                total = total[telling]
            known = power > 0
            share = (total.real**2 + total.imag**2)[known] / (len(values) * power[known])
            self.coherence.setdefault(way, []).append(float(share.mean()) if share.size else float("nan"))
        self.cells += int((power > 0).sum())
        self.baselines = first, second

    def _significance(self, way: str) -> float:
        """Excess of the coherent share of the power over that of noise, in standard deviations of noise."""
        integrations = len(self.times_jd)
        return (float(np.nanmean(self.coherence[way])) * integrations - 1) * np.sqrt(self.cells)

    def findings(self, group: RawGroup, auto: dict[int, np.ndarray], alive: np.ndarray) -> list[Finding]:
        """Findings on fringes, position, calibration and units.

        Parameters
        ----------
        group
            Group of the data.
        auto
            Median autocorrelations (A, P) by subband.
        alive
            True for antennas with a signal, shape (A,).
        """
        file, integrations = group.first, len(self.times_jd)
        seen = f"{self.calibrator.name}, {self.apparent_jy:.2f} Jy in the beam"
        power = (self.apparent_jy / dsa110.SEFD_JY) ** 2 * file.number("channel_width") * dsa110.INTEGRATION_S
        expected = (integrations - 1) * power / (1 + power) * np.sqrt(self.cells)
        if not expected > _LEAST_SIGNIFICANCE:
            return unknown(f"{seen}, is too faint for this group ({expected:.0f} σ expected)")
        strengths = {way: self._significance(way) for way in self.coherence}
        best = max(strengths, key=strengths.__getitem__)
        good = best is _MERIDIAN and strengths[best] > max(_FOUND_SIGNIFICANCE, _FOUND_SHARE * expected)
        told = (
            ", ".join(f"{way} {strength:.0f} σ" for way, strength in strengths.items())
            + f", expected {expected:.0f} σ"
        )
        fringes = judged(
            Assumption.FRINGE_STOPPING,
            good,
            _LINES[Assumption.FRINGE_STOPPING],
            f"{seen}: {told}",
            "conjugated: the sign of uvw or of the phases, or east and west exchanged; tracked: another phase centre;"
            " none: clock, pointing or cables. Nothing can be set: no image will be right",
        )
        if not good:
            lost = unknown("no fringes of the source to measure it on")
            return [fringes, *lost[1:]]
        return [fringes, *self._calibrated(group, auto, alive)]

    def _calibrated(self, group: RawGroup, auto: dict[int, np.ndarray], alive: np.ndarray) -> list[Finding]:
        """Findings from delays, then gains of each subband: position, calibration, units."""
        first, second = self.baselines
        subbands = sorted(self.turned, reverse=True)
        data = np.concatenate([self.turned[subband] for subband in subbands], axis=1)
        frequencies = np.concatenate([np.sort(group.files[subband].frequencies_hz) for subband in subbands])
        weights = (data != 0).astype(np.float32)
        usable = alive & np.isin(np.arange(len(self.antennas)), np.concatenate([first, second]))
        if not usable.any():
            return unknown("no antenna has a signal")[1:]
        middle = np.linalg.norm(self.positions_m - np.median(self.positions_m[usable], axis=0), axis=1)
        reference = int(np.where(usable, middle, np.inf).argmin())
        number = len(self.antennas)
        gridded, on_grid = _evenly(data, weights, frequencies)
        delay_s, found = antenna_gains.delays(
            gridded, on_grid[1], on_grid[0], first, second, antennas=number, reference=reference, min_snr=_MIN_SNR
        )
        offset_hz = frequencies - frequencies.mean()
        turned = np.exp(2j * np.pi * delay_s[:, np.newaxis] * offset_hz[:, np.newaxis])
        flat = data * turned[first].conj() * turned[second]
        channels = len(frequencies) // len(subbands)
        binned = flat.reshape(len(first), len(subbands), channels, -1).mean(axis=2)[np.newaxis].astype(np.complex64)
        apparent = self.apparent_jy * self.calibrator.flux(frequencies) / self.calibrator.flux(BAND_CENTRE_HZ)
        flux = apparent.reshape(len(subbands), channels).mean(axis=1)
        jy = np.broadcast_to(flux[:, np.newaxis], binned.shape).astype(np.complex64)
        solved = antenna_gains.solve(
            binned, jy, (binned != 0).astype(np.float32), first, second, antennas=number, min_snr=_MIN_SNR
        )
        share = solved.good[0].any(axis=2).mean(axis=1) > 0.5
        power = np.abs(solved.values[0]) ** 2
        level = np.array([auto[subband] for subband in subbands]).swapaxes(0, 1)
        good = solved.good[0] & (level > 0)
        sefd = float(np.median(level[good] / power[good])) if good.any() else float("nan")
        delays_ns = np.abs(delay_s[found]) * 1e9
        return [
            self._position(delay_s, found),
            judged(
                Assumption.CALIBRATION,
                bool(usable.any() and share[usable].mean() >= _LEAST_SOLVED),
                _LINES[Assumption.CALIBRATION],
                f"{int(share[usable].sum())} of {int(usable.sum())}{self._named(usable & ~share)};"
                f" delays up to {delays_ns.max(initial=0):.0f} ns",
                "calibration.min_snr, or another calibrator; antennas that stay without gains are flagged",
            ),
            judged(
                Assumption.UNITS,
                bool(dsa110.SEFD_JY / _SEFD_FACTOR < sefd < dsa110.SEFD_JY * _SEFD_FACTOR),
                _LINES[Assumption.UNITS],
                f"{sefd:.0f} Jy",
                "the calibrator's flux, the beam (`beam`), or the scale of the autocorrelations; SEFD_JY in"
                " contimg/telescope/dsa110.py is what thermal noise is computed with",
            ),
        ]

    def _named(self, which: np.ndarray) -> str:
        """Names of some antennas, in brackets."""
        names = ", ".join(stations.NAMES[number] for number in self.antennas[which] if number < stations.COUNT)
        return f" (none: {names})" if names else ""

    def _position(self, delay_s: np.ndarray, found: np.ndarray) -> Finding:
        """Position of the source, from the gradient of the delays over the array."""
        number = found.sum(axis=1)
        used = np.flatnonzero(number)
        if len(used) < 6:
            return unknown("too few antennas have a delay")[1]
        delay_m = (delay_s * found).sum(axis=1)[used] / number[used] * SPEED_OF_LIGHT
        design = np.column_stack([self.uvw_m[used, :2], np.ones(len(used))])
        keep = np.ones(len(used), bool)
        for _ in range(3):  # without outliers
            solution, *_ = np.linalg.lstsq(design[keep], delay_m[keep], rcond=None)
            left = delay_m - design @ solution
            scatter = max(MAD_TO_SIGMA * float(np.median(np.abs(left[keep]))), 1e-3)
            keep = np.abs(left) < 4 * scatter
        error = scatter * np.sqrt(np.diag(np.linalg.inv(design[keep].T @ design[keep])))[:2]
        east, north = np.degrees(solution[:2]) * 60
        east_error, north_error = np.degrees(error) * 60
        found_at = f"{east:+.0f}′ ± {east_error:.0f}′ east, {north:+.0f}′ ± {north_error:.0f}′ north"
        if 4 * error.max() > _TELLING_RAD and not (np.abs(solution[:2]) > 5 * error).any():
            text = f"{found_at} of it: the delays scatter too much to tell"
            return Finding(
                Assumption.POSITION,
                Assessment.UNKNOWN,
                _LINES[Assumption.POSITION],
                text,
                "try a set of known delays",
            )
        good = bool((np.abs(solution[:2]) < np.maximum(4 * error, _POSITION_RAD)).all())
        return judged(
            Assumption.POSITION,
            good,
            _LINES[Assumption.POSITION],
            f"{found_at} of it",
            "east: the clock (15′·cos(dec) a minute); north: phase_center_app_dec; degrees: not stopped at all",
        )


def _evenly(
    data: np.ndarray, weights: np.ndarray, frequencies: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Data and weights on evenly spaced frequencies, without data where a subband is missing."""
    step = float(np.median(np.diff(frequencies)))
    slot = np.rint((frequencies - frequencies[0]) / step).astype(int)
    shape = (len(data), slot[-1] + 1, data.shape[2])
    even, share = np.zeros(shape, np.complex64), np.zeros(shape, np.float32)
    even[:, slot], share[:, slot] = data, weights
    return even, (frequencies[0] + np.arange(shape[1]) * step, share)


def unknown(why: str) -> list[Finding]:
    """Findings that cannot be made, with the reason."""
    advice = "take a group in which a calibrator transits: `contimg transits`"
    return [Finding(line, Assessment.UNKNOWN, expected, why, advice) for line, expected in _LINES.items()]
