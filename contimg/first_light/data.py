"""Findings from the visibilities, without a source in the sky."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from contimg.core.units import MAD_TO_SIGMA
from contimg.first_light.findings import Assumption, Finding, judged
from contimg.first_light.raw_group import SubbandFile
from contimg.telescope import dsa110, stations

_LEVEL_FACTOR = 4.0
"""Largest ratio of a subband's level to the median of all, either way."""
_NOISE_RANGE = (0.8, 1.6)
"""Accepted ratio of the cross-correlations' noise to the radiometer equation's."""
_MOST_SILENT = 35
"""Largest accepted number of antennas without a signal, of all stations."""


@dataclass
class Signals:
    """Signal statistics, gathered subband by subband.

    Attributes
    ----------
    antennas
        Zero-based numbers of the antennas that baselines have, shape (A,).
    auto
        Median autocorrelation of each antenna and polarization by subband (A, P).
    noise_ratio
        Ratio of the cross-correlations' noise to the radiometer equation's, by subband.
    flagged, odd_samples, blank, infinite
        Fractions of flags that are set, of `nsamples` that are not the usual number, of visibilities that are zero or
        not finite, and of those that are not finite, by subband.
    imaginary
        Largest ratio of an imaginary part of an autocorrelation to its real part.
    samples
        Usual number of correlator dumps in a visibility.
    """

    antennas: np.ndarray
    auto: dict[int, np.ndarray] = field(default_factory=dict)
    noise_ratio: dict[int, float] = field(default_factory=dict)
    flagged: dict[int, float] = field(default_factory=dict)
    odd_samples: dict[int, float] = field(default_factory=dict)
    blank: dict[int, float] = field(default_factory=dict)
    infinite: dict[int, float] = field(default_factory=dict)
    imaginary: float = 0.0
    samples: float = float("nan")

    def add(self, subband: int, file: SubbandFile, visibilities: np.ndarray) -> None:
        """Gather the statistics of a subband; visibilities (T, B, F, P). Raises `InputError` if it cannot be read."""
        first, second = (file.head[name][: file.baselines] for name in ("ant_1_array", "ant_2_array"))
        finite = np.isfinite(visibilities)
        self.blank[subband] = float(1 - np.count_nonzero(finite & (visibilities != 0)) / visibilities.size)
        self.infinite[subband] = float(1 - np.count_nonzero(finite) / finite.size)
        self.flagged[subband] = float(file.data("flags").mean())
        samples = file.data("nsamples")
        if np.isnan(self.samples):
            self.samples = float(np.median(samples))
        self.odd_samples[subband] = float(np.mean((samples != self.samples) | (samples <= 0)))
        values = np.where(finite, visibilities, 0)
        level = np.zeros((len(self.antennas), values.shape[3]))
        for number in np.flatnonzero(first == second):
            level[np.searchsorted(self.antennas, first[number])] = np.median(values[:, number].real, axis=(0, 1))
            peak = np.abs(values[:, number].real).max()
            if peak > 0:
                self.imaginary = max(self.imaginary, float(np.abs(values[:, number].imag).max() / peak))
        self.auto[subband] = level
        self.noise_ratio[subband] = self._noise(file, values, first, second, level)

    def _noise(
        self, file: SubbandFile, values: np.ndarray, first: np.ndarray, second: np.ndarray, level: np.ndarray
    ) -> float:
        """Noise from second differences over the channels, over that of the radiometer equation."""
        cross = np.flatnonzero(first != second)
        if values.shape[2] < 3 or not len(cross):
            return float("nan")
        some = cross[:: max(1, len(cross) // 500)]
        part = values[:, some]
        difference = (part[:, :, :-2] - 2 * part[:, :, 1:-1] + part[:, :, 2:]) / np.sqrt(6)
        scatter = MAD_TO_SIGMA * np.median(np.abs(difference.real), axis=(0, 2))
        one, other = (level[np.searchsorted(self.antennas, numbers[some])] for numbers in (first, second))
        # The step between times, as an older writer stores a raw sample's length.
        step_s = float(np.median(np.diff(file.times_jd))) * 86400 if file.integrations > 1 else dsa110.INTEGRATION_S
        width = abs(file.number("channel_width"))
        expected = np.sqrt(np.clip(one * other, 0, None) / (2 * width * step_s))
        good = (expected > 0) & (scatter > 0)
        return float(np.median(scatter[good] / expected[good])) if good.any() else float("nan")

    @property
    def alive(self) -> np.ndarray:
        """True for antennas with a signal in any polarization of most subbands, shape (A,)."""
        levels = np.array(list(self.auto.values())).reshape(
            -1, len(self.antennas), len(next(iter(self.auto.values()))[0])
        )
        typical = np.median(levels[levels > 0]) if (levels > 0).any() else 0.0
        return np.median((levels > 1e-3 * typical).any(axis=2), axis=0) > 0.5

    def findings(self) -> list[Finding]:
        """Findings on flags, samples, values, levels, noise and antennas."""
        return [
            self._flags(),
            self._samples(),
            self._values(),
            self._levels(),
            self._noise_finding(),
            self._antennas(),
        ]

    def _flags(self) -> Finding:
        worst = max(self.flagged, key=self.flagged.__getitem__)
        return judged(
            Assumption.FLAGS,
            self.flagged[worst] == 0,
            "none is set",
            "none" if not self.flagged[worst] else f"{self.flagged[worst]:.2%} of sb{worst:02d}",
            "nothing: such samples are flagged, unless a file flags all of them; ask what the writer flags",
        )

    def _samples(self) -> Finding:
        worst = max(self.odd_samples, key=self.odd_samples.__getitem__)
        odd = self.odd_samples[worst]
        return judged(
            Assumption.NSAMPLES,
            odd == 0 and self.samples > 0,
            "one number over 0 everywhere",
            f"{self.samples:g}" + (f", another one in {odd:.2%} of sb{worst:02d}" if odd else ""),
            "nothing: samples of 0 are flagged, weights come from bandwidth and time; ask which are short",
        )

    def _values(self) -> Finding:
        zeroed = [subband for subband, share in self.blank.items() if share > 0.5]
        worst = max(self.blank, key=self.blank.__getitem__)
        odd = max(self.infinite, key=self.infinite.__getitem__)
        found = f"{self.blank[worst]:.1%} zero or not finite in sb{worst:02d}"
        found += f"; {self.infinite[odd]:.2%} not finite in sb{odd:02d}" if self.infinite[odd] else ""
        found += f"; blank: {', '.join(f'sb{subband:02d}' for subband in zeroed)}" if zeroed else ""
        return judged(
            Assumption.VALUES,
            not zeroed and not self.infinite[odd],
            "finite and not zero (but for antennas without a signal)",
            found,
            "nothing: a blank subband is taken as missing (look at its correlator host); values that are not finite,"
            " in which a file that was closed early may end, are flagged",
        )

    def _levels(self) -> Finding:
        medians = {
            subband: float(np.median(level[level > 0])) for subband, level in self.auto.items() if (level > 0).any()
        }
        if not medians:
            return judged(
                Assumption.LEVELS, False, "autocorrelations over 0", "none", "the autocorrelations are not there"
            )
        middle = float(np.median(list(medians.values())))
        off = [s for s, one in medians.items() if not middle / _LEVEL_FACTOR < one < middle * _LEVEL_FACTOR]
        real = self.imaginary < 1e-3
        found = f"{min(medians.values()):.4g} to {max(medians.values()):.4g} by subband"
        found += f"; off: {', '.join(f'sb{subband:02d}' for subband in off)}" if off else ""
        found += "" if real else f"; imaginary parts of up to {self.imaginary:.2g} of the real ones"
        return judged(
            Assumption.LEVELS,
            not off and real,
            f"real autocorrelations, subbands within a factor of {_LEVEL_FACTOR:g} of their median",
            found,
            "the bandpass solution takes levels out; a subband that is far off has another requantisation",
        )

    def _noise_finding(self) -> Finding:
        ratios = [ratio for ratio in self.noise_ratio.values() if np.isfinite(ratio)]
        median = float(np.median(ratios)) if ratios else float("nan")
        low, high = _NOISE_RANGE
        return judged(
            Assumption.NOISE,
            low <= median <= high,
            f"{low:g} to {high:g} times the autocorrelations' level over √(2 Δν τ)",
            f"{median:.2f}",
            "channel width, integration time or the scale of the autocorrelations is another: thermal noise will be"
            " wrong, and with it quality.min_noise_over_thermal and max_noise_over_thermal",
        )

    def _antennas(self) -> Finding:
        silent = self.antennas[~self.alive]
        names = ", ".join(stations.NAMES[number] if number < stations.COUNT else str(number) for number in silent)
        without = stations.COUNT - len(stations.WITH_DATA)
        return judged(
            Assumption.ANTENNAS,
            without + len(silent) <= _MOST_SILENT and len(silent) <= len(self.antennas) / 3,
            f"at most {_MOST_SILENT} of {stations.COUNT} without a signal, the {without} without data among them",
            f"{len(silent)} of {len(self.antennas)} silent" + (f": {names}" if len(silent) else ""),
            "nothing: silent antennas are flagged; calibration.max_dead_antennas is the gate of a set",
        )
