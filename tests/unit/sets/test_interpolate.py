"""Interpolation between two sets, against gains that are known at every moment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contimg.sets.gains import Gains
from contimg.sets.interpolate import GainTrend, InterpolatedGains, phase_change_rad
from contimg.simulator.gain_errors import REFERENCE_FREQUENCY_HZ, Corruptions, TrueGains

HOUR = 3600.0
ANTENNAS = 30
FREQUENCIES = np.linspace(1.312e9, 1.498e9, 64)
START = 5.2e9
"""MJD (s)."""
TARGET = START + 1.2 * HOUR + np.arange(24) * 12.885
DRIFTING = Corruptions(phase_drift_deg_per_hour=500.0, amplitude_drift_per_hour=0.08)


def truth(seed: int = 3, corruptions: Corruptions = DRIFTING) -> TrueGains:
    return TrueGains.draw(corruptions, range(ANTENNAS), START, seed)


def solved(true: TrueGains, middle: float, *, reference: int = 4, error: float = 0.0, seed: int = 1) -> Gains:
    """The set that a solver finds: delay, bandpass and five gains, against a reference antenna."""
    rng = np.random.default_rng(seed)
    times = middle + (np.arange(5) - 2) * 60.0
    at = true.evaluate(times, FREQUENCIES)
    delay_s = true.delay_s + rng.normal(size=true.delay_s.shape) * 0.03e-9
    turn = np.exp(-2j * np.pi * delay_s[:, None] * (FREQUENCIES[:, None] - REFERENCE_FREQUENCY_HZ))
    at = at * turn * np.exp(-1j * np.angle(at[:, reference, :, :] * turn[reference]))[:, None]
    bandpass = at[2]
    gain = (at / bandpass).mean(axis=2)
    gain = gain * np.exp(1j * rng.normal(size=gain.shape) * error)
    return Gains(
        reference_hz=REFERENCE_FREQUENCY_HZ,
        delay_s=delay_s - delay_s[reference],
        delay_good=np.ones(delay_s.shape, bool),
        bandpass_hz=FREQUENCIES,
        bandpass=bandpass.astype(np.complex64),
        bandpass_good=np.ones(bandpass.shape, bool),
        times_mjd_s=times,
        gain=gain.astype(np.complex64),
        gain_good=np.ones(gain.shape, bool),
    )


def bracket(true: TrueGains, hours: float = 3.0, **options: float) -> InterpolatedGains:
    return InterpolatedGains(
        solved(true, START, seed=1, **options), solved(true, START + hours * HOUR, seed=2, reference=9, **options)
    )


def errors(got: np.ndarray, true: TrueGains, *, antennas: slice | list[int] = slice(None)) -> tuple[float, float]:
    """Largest error of amplitude (relative) and of phase (deg), which is known up to one phase for all antennas."""
    expected = true.evaluate(TARGET, FREQUENCIES)[:, antennas]
    ratio = got[:, antennas] / expected
    common = np.exp(-1j * np.angle(ratio.sum(axis=1, keepdims=True)))
    return float(np.abs(np.abs(ratio) - 1).max()), float(np.degrees(np.abs(np.angle(ratio * common)).max()))


def test_amplitude_and_phase_over_several_turns() -> None:
    true = truth()
    both = bracket(true)
    values, good = both.evaluate(TARGET, FREQUENCIES)
    assert good.all()
    amplitude, phase_deg = errors(values, true)
    assert amplitude < 0.005
    assert phase_deg < 1.0
    report = both.at(TARGET)[1]
    assert report["most_turns"] > 4
    assert report["interpolated"] == ANTENNAS
    assert report["one_side"] == report["nearest"] == []
    nearest, _ = both.before.evaluate(TARGET, FREQUENCIES)
    assert errors(nearest, true)[1] > 100


def test_a_mean_of_complex_gains_would_be_wrong() -> None:
    """Why amplitude and phase go apart."""
    true = truth()
    both = bracket(true)
    ends = [one.evaluate(TARGET, FREQUENCIES)[0] for one in (both.before, both.after)]
    amplitude, phase_deg = errors(sum(ends) / 2, true)
    assert amplitude > 0.5
    assert phase_deg > 100


def test_amplitudes_in_the_gains_are_interpolated_as_those_in_the_bandpass_are() -> None:
    """However the solver divides them: here all of it is in the gains."""
    true = truth()
    both = bracket(true)

    def moved(one: Gains) -> Gains:
        level = np.abs(one.bandpass).mean(axis=1)
        return replace(one, bandpass=one.bandpass / level[:, None], gain=one.gain * level)

    values, _ = InterpolatedGains(moved(both.before), moved(both.after)).evaluate(TARGET, FREQUENCIES)
    amplitude, phase_deg = errors(values, true)
    assert amplitude < 0.005
    assert phase_deg < 1.0


def test_the_nearer_side_serves_where_nothing_is_interpolated() -> None:
    """Whichever it is; and of each side, its solution nearest in time."""
    true = truth()
    both = bracket(true, error=np.radians(12))
    for hours, near, last in ((0.7, both.before, -1), (2.3, both.after, 0)):
        times = START + hours * HOUR + np.arange(24) * 12.885
        gains, report = both.at(times)
        unclear = [int(name) - 1 for name in report["nearest"]]
        reference = int(report["reference_antenna"]) - 1
        said = near.gain[last] / np.exp(1j * np.angle(near.gain[last, reference]))
        got = gains.gain[0] / np.exp(1j * np.angle(gains.gain[0, reference]))
        assert len(unclear) > ANTENNAS / 2
        np.testing.assert_allclose(np.abs(got[unclear]), np.abs(said[unclear]), rtol=1e-4)


def test_lost_solutions_do_not_move_a_phase() -> None:
    """A line is fitted to those that are there, and taken at the middle of the set."""
    true = truth()
    both = bracket(true)
    gain_good = both.before.gain_good.copy()
    gain_good[3:, 6:] = False
    values, good = InterpolatedGains(replace(both.before, gain_good=gain_good), both.after).evaluate(
        TARGET, FREQUENCIES
    )
    assert good.all()
    assert errors(values, true)[1] < 1.0


def test_noise_in_the_solutions_is_borne() -> None:
    true = truth()
    both = bracket(true, error=np.radians(0.5))
    values, _ = both.evaluate(TARGET, FREQUENCIES)
    amplitude, phase_deg = errors(values, true)
    assert amplitude < 0.01
    assert phase_deg < 3.0
    assert both.at(TARGET)[1]["nearest"] == []


def test_where_turns_cannot_be_counted_the_nearest_set_serves() -> None:
    """Phases too noisy to say how fast they drift: no guess is made."""
    true = truth()
    noisy = bracket(true, error=np.radians(12))
    report = noisy.at(TARGET)[1]
    assert len(report["nearest"]) > ANTENNAS / 2
    gains, _ = noisy.at(TARGET)
    clean, _ = bracket(true).at(TARGET)
    unclear = [int(name) - 1 for name in report["nearest"]]
    relative = gains.gain[:, unclear] / gains.gain[0, unclear]
    assert np.abs(np.angle(relative)).min(axis=(0, 2)).max() < 1e-6  # constant: the last solution of the nearer set
    assert np.abs(np.angle(clean.gain[-1] / clean.gain[0])).max() > 0.5


def test_one_noisy_antenna_leaves_the_others_alone() -> None:
    true = truth()
    both = bracket(true)
    rng = np.random.default_rng(5)
    gain = both.before.gain.copy()
    gain[:, 7] *= np.exp(1j * rng.normal(size=gain[:, 7].shape) * np.radians(20))
    spoiled = InterpolatedGains(replace(both.before, gain=gain), both.after)
    gains, report = spoiled.at(TARGET)
    assert report["nearest"] == ["8"]
    others = [a for a in range(ANTENNAS) if a != 7]
    values, _ = gains.evaluate(TARGET, FREQUENCIES)
    assert errors(values, true, antennas=others)[1] < 1.0


def test_solutions_that_happen_to_lie_on_a_line_are_not_trusted_more_than_others() -> None:
    both = bracket(truth(), error=np.radians(12))
    straight = []
    for one in (both.before, both.after):
        gain = one.gain.copy()
        gain[:, 7] = gain[:, 0] * np.exp(1j * 1e-3 * (one.times_mjd_s - START))[:, None]  # 0 is the reference
        straight.append(replace(one, gain=gain))
    assert "8" in InterpolatedGains(*straight).at(TARGET)[1]["nearest"]


def test_an_antenna_with_one_good_side_uses_that_side() -> None:
    true = truth()
    both = bracket(true)
    before = replace(both.before, gain_good=both.before.gain_good.copy(), delay_good=both.before.delay_good.copy())
    after = replace(both.after, bandpass_good=both.after.bandpass_good.copy())
    before.gain_good[:, 2] = False
    before.delay_good[11] = False
    after.bandpass_good[5] = False
    before.gain_good[:, 20] = after.bandpass_good[20] = False
    gains, report = InterpolatedGains(before, after).at(TARGET)
    assert report["one_side"] == ["3", "6", "12"]
    values, good = gains.evaluate(TARGET, FREQUENCIES)
    assert not good[:, 20].any()
    assert good[:, [a for a in range(ANTENNAS) if a != 20]].all()
    # Each is what that set says, against the same antenna as all others are.
    for antenna, one in ((2, after), (11, after), (5, before)):
        reference = int(report["reference_antenna"]) - 1
        said, _ = one.evaluate(TARGET, FREQUENCIES)
        expected = said[:, antenna] / said[:, reference]
        got = values[:, antenna] / values[:, reference]
        np.testing.assert_allclose(np.angle(got * expected.conj()), 0, atol=1e-3)
        np.testing.assert_allclose(np.abs(values[:, antenna]), np.abs(said[:, antenna]), rtol=1e-4)


def test_without_a_common_antenna_the_nearer_set_serves_alone() -> None:
    both = bracket(truth())
    halves = np.arange(ANTENNAS) < ANTENNAS // 2
    before = replace(both.before, gain_good=both.before.gain_good & halves[:, None])
    after = replace(both.after, gain_good=both.after.gain_good & ~halves[:, None])
    gains, report = InterpolatedGains(before, after).at(TARGET)
    assert gains is before
    assert report["reference_antenna"] is None
    assert len(report["one_side"]) == ANTENNAS // 2


def test_a_set_and_its_copy_serve_as_one() -> None:
    """Gains were no numbers, and the image failed at a division by zero."""
    gains = solved(truth(), START)
    found, report = InterpolatedGains(gains, replace(gains)).at(TARGET)
    assert report["reference_antenna"] is None
    assert np.array_equal(found.gain, gains.gain)


def test_gaps_in_the_band_and_another_middle_of_the_band() -> None:
    """The set after lacks the top of the band: its delays' phase counts from elsewhere, its channels are fewer."""
    true = truth()
    both = bracket(true)
    kept = slice(0, 52)
    after = both.after
    elsewhere = float(FREQUENCIES[kept].mean())
    moved = replace(
        after,
        reference_hz=elsewhere,
        gain=after.gain
        * np.exp(2j * np.pi * after.delay_s * (elsewhere - REFERENCE_FREQUENCY_HZ)).astype(np.complex64),
        bandpass_hz=FREQUENCIES[kept],
        bandpass=after.bandpass[:, kept],
        bandpass_good=after.bandpass_good[:, kept],
    )
    values, good = InterpolatedGains(both.before, moved).evaluate(TARGET, FREQUENCIES)
    assert good.all()
    ratio = values / true.evaluate(TARGET, FREQUENCIES)
    common = np.exp(-1j * np.angle(ratio[:, :, kept].sum(axis=1, keepdims=True)))
    assert np.degrees(np.abs(np.angle(ratio[:, :, kept] * common)).max()) < 1.0


@pytest.mark.parametrize("turns", [-7, -1, 0, 1, 5])
def test_turns_are_counted_either_way(turns: int) -> None:
    hours = 3.0
    angle = np.array([[2 * np.pi * turns + 0.7]])
    rate = angle / (hours * HOUR)
    sure, start = np.full((1, 1), 1e-6), np.array([[3.0]])
    end = np.angle(np.exp(1j * (start + angle)))
    first, last = (GainTrend(time, phase, start, rate, sure) for time, phase in ((0.0, start), (hours * HOUR, end)))
    turned, decided = phase_change_rad(first, last)
    assert turned == pytest.approx(angle)
    assert decided.all()
    # Half a turn off what the rates say, either number of turns would do.
    off = replace(last, rate=rate + np.pi / (hours * HOUR) * 2)
    assert not phase_change_rad(first, off)[1].any()
    # Rates that differ by three turns over that time: the phase does not drift steadily, whatever their mean says.
    bent = [replace(one, rate=rate + np.pi * 3 * sign / (hours * HOUR)) for one, sign in ((first, 1), (last, -1))]
    assert phase_change_rad(*bent)[0] == pytest.approx(angle)
    assert not phase_change_rad(*bent)[1].any()
    # Rates that err by a quarter of a turn over the time between decide nothing.
    unsure = replace(first, rate_error=np.full((1, 1), 4.0 / (hours * HOUR)))
    assert not phase_change_rad(unsure, last)[1].any()
    blind = [replace(one, rate_error=np.full((1, 1), np.inf)) for one in (first, last)]
    assert not phase_change_rad(*blind)[1].any()
    assert phase_change_rad(first, blind[1])[1].all()  # one side's rate is enough
