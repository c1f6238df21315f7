"""The field's model and the averages that are solved on: nothing is lost, and nothing comes in that is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sky_lists import sky_of

from contimg.catalogues.calibrator import FluxModel
from contimg.core.errors import CatalogueError, NoUsableDataError
from contimg.core.sections import Beam, Calibration, SkyCatalogue
from contimg.image.source_subtraction import BrightSource
from contimg.sets.caltable import Caltable
from contimg.sets.gains import combine
from contimg.solve import field_model, reference_antenna
from contimg.solve.antenna_gains import Solutions
from contimg.solve.solve_data import Averages, CalibratorGroup, ModelledGroup, channels_within
from contimg.telescope import beam
from contimg.visibilities import model
from contimg.visibilities.averaging import Baselines, Visibilities
from contimg.visibilities.baseline_averaging import ImagePlan
from contimg.visibilities.measurement_set import ObservationGeometry

CENTRE = (2.2467, 0.954)
CHANNELS, INTEGRATIONS = 32, 6


def geometry(antennas: int = 8) -> ObservationGeometry:
    """A small array whose beam drifts, with the calibrator's channels 0.5 MHz apart."""
    rng = np.random.default_rng(3)
    antenna1, antenna2 = np.triu_indices(antennas, 1)
    times = 5.2e9 + 12.88 * np.arange(INTEGRATIONS)
    drift = np.multiply.outer(np.arange(INTEGRATIONS), rng.normal(size=(antennas, 3)) * 0.5)
    coordinates = drift + rng.normal(size=(antennas, 3)) * 500
    return ObservationGeometry(
        times_mjd_s=times,
        interval_s=12.88,
        frequencies_hz=1.4e9 + 0.5e6 * np.arange(CHANNELS),
        channel_width_hz=0.5e6,
        antenna1=antenna1,
        antenna2=antenna2,
        antenna_uvw_m=coordinates,
        positions_m=coordinates[0],
        names=tuple(str(number + 1) for number in range(antennas)),
        phase_centre_rad=CENTRE,
        primary_beam=beam.of(Beam()),
        pointings_rad=np.column_stack(
            [CENTRE[0] + 0.001 * np.arange(INTEGRATIONS), np.full(INTEGRATIONS, CENTRE[1])]
        ),
    )


def sky(where: ObservationGeometry) -> model.Sky:
    """A calibrator a degree off, and two sources."""
    flux = np.array([8.0, 1.5, 0.6])[:, None] * (where.frequencies_hz / 1.4e9) ** -0.7
    return model.Sky(CENTRE[0] + np.array([0.004, -0.03, 0.02]), CENTRE[1] + np.array([0.017, -0.01, -0.02]), flux)


def first(source: model.Sky) -> model.Sky:
    return model.Sky(source.ra_rad[:1], source.dec_rad[:1], source.flux_jy[:1])


def delays(where: ObservationGeometry, delay_ns: np.ndarray) -> Caltable:
    values = delay_ns[None, :, None, :]
    good = np.ones(values.shape, bool)
    return Caltable(where.times_mjd_s[:1], where.frequencies_hz[:1], values, good, np.zeros(values.shape))


def observed(where: ObservationGeometry, source: model.Sky, delay_ns: np.ndarray) -> CalibratorGroup:
    """What an array with these delays sees, some of it flagged and wrong."""
    directions = model.direction_cosines(source.ra_rad, source.dec_rad, where.phase_centre_rad)
    phase = 2 * np.pi * 1e-9 * delay_ns[:, None, :] * (where.frequencies_hz - where.frequencies_hz[0])[None, :, None]
    gain = np.exp(1j * phase)
    data = np.stack(
        [
            model.predict(
                source.apparent_jy(where.primary_beam, (ra, dec), where.frequencies_hz),
                directions,
                where.antenna_uvw_m[t],
                where.antenna1,
                where.antenna2,
                frequencies_hz=where.frequencies_hz,
            )[..., None]
            * (gain[where.antenna1] * gain[where.antenna2].conj())
            for t, (ra, dec) in enumerate(where.pointings_rad)
        ]
    ).astype(np.complex64)
    flags = np.zeros(data.shape, bool)
    flags[2, 5, 8:16] = True
    data[flags] = 1e6
    visibilities = Visibilities(data, flags, np.ones((*data.shape[:2], 1, 2), np.float32))
    baselines = Baselines(np.arange(len(where.antenna1)), where.antenna1, where.antenna2)
    return CalibratorGroup(Path("group.ms"), where, baselines, visibilities, first(source))


def test_averages_of_data_and_model_agree() -> None:
    where = geometry()
    source = sky(where)
    delay_ns = np.random.default_rng(1).uniform(-20, 20, (8, 2))
    group = observed(where, source, delay_ns)
    averaged_group = group.averaged(delays(where, delay_ns), np.arange(8) < 5, 2e6)
    assert averaged_group.channels == 4
    assert averaged_group.data.shape == (2, 28, 8, 2)
    assert averaged_group.core_data.shape == (INTEGRATIONS, 10, 8, 2)
    modelled = ModelledGroup(averaged_group, sky(averaged_group.geometry))
    no_gains = combine(delays(where, np.zeros((8, 2))))
    for averaged in (modelled.in_gain_intervals(no_gains), modelled.over_group(no_gains, 2e6)):
        assert averaged.weights.min() > 0
        # Flux and phase change together within an interval, which its mean model leaves out: some thousandths
        # of the calibrator; more where a third of the interval is flagged.
        error = np.abs(averaged.data - averaged.model).max(axis=(0, 2, 3)) / 8
        assert np.delete(error, 5).max() < 2e-3
        assert np.median(error) < 1e-3
        assert error[5] < 2e-2


def test_the_core_is_imaged_as_it_was_seen() -> None:
    where = geometry()
    source = sky(where)
    delay_ns = np.random.default_rng(1).uniform(-20, 20, (8, 2))
    averaged_group = observed(where, source, delay_ns).averaged(delays(where, delay_ns), np.arange(8) < 5, 0.5e6)
    no_gains = combine(delays(where, np.zeros((8, 2))))
    averaged = averaged_group.of_the_core(no_gains, ImagePlan(0.05, 0.0, 0.0, where.primary_beam))
    assert averaged.antennas == (0, 1, 2, 3, 4)
    directions = model.direction_cosines(source.ra_rad, source.dec_rad, where.phase_centre_rad)
    expected = model.predict(
        source.apparent_jy(where.primary_beam, tuple(where.pointings_rad[0]), where.frequencies_hz),
        directions,
        where.antenna_uvw_m[0],
        where.antenna1,
        where.antenna2,
        frequencies_hz=where.frequencies_hz,
    )
    core = (where.antenna1 < 5) & (where.antenna2 < 5)
    np.testing.assert_allclose(averaged.rows.visibilities[: core.sum()], expected[core], atol=1e-4 * 8)
    np.testing.assert_allclose(averaged.rows.uvw_m[: core.sum()], where.uvw_m[0, core], atol=1e-6)


def test_the_calibrator_alone_is_its_flux_when_turned_to_it() -> None:
    where = geometry()
    source = first(sky(where))
    group = observed(where, source, np.zeros((8, 2)))
    averaged, used = group.over_group(group.everything)
    np.testing.assert_allclose(averaged.data.imag, 0, atol=2e-5)
    seen = [
        source.apparent_jy(where.primary_beam, (ra, dec), where.frequencies_hz)[0] for ra, dec in where.pointings_rad
    ]
    whole = np.arange(len(where.antenna1)) != 5
    expected = np.broadcast_to(np.mean(seen, axis=0)[:, None], averaged.data[0, whole].shape)
    np.testing.assert_allclose(averaged.data[0, whole].real, expected, rtol=2e-5)
    assert averaged.weights[0, 5, 10, 0] == INTEGRATIONS - 1
    assert used[2, 5] == 0.75
    assert np.delete(used, 5, axis=1).min() == 1


def test_bins_divide_the_band() -> None:
    where = geometry()
    assert [channels_within(width, where) for width in (0.1e6, 0.5e6, 1.6e6, 2e6, 1e9)] == [1, 1, 2, 4, 32]


def averaged_with(where: ObservationGeometry, noisy: int, flagged: int) -> Averages:
    """A calibrator of 5 Jy; one antenna has noise alone, half of another is flagged."""
    rng = np.random.default_rng(2)
    shape = (1, len(where.antenna1), CHANNELS, 2)
    noise = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    delay = np.exp(2j * np.pi * np.outer(rng.uniform(-1, 1, shape[1]), np.arange(CHANNELS) / CHANNELS))
    data = noise + 5 * delay[None, :, :, None]
    touched = (where.antenna1 == noisy) | (where.antenna2 == noisy)
    data[:, touched] = noise[:, touched]
    weights = np.ones(shape, np.float32)
    weights[:, (where.antenna1 == flagged) | (where.antenna2 == flagged), : CHANNELS // 2] = 0
    return Averages(where.times_mjd_s[:1], where.frequencies_hz, 0.5e6, data, data, weights)


INTERVALS = np.array([0, 0, 0, 1, 1, 1])


def everything_used(where: ObservationGeometry) -> np.ndarray:
    return np.ones((INTEGRATIONS, len(where.antenna1)))


def touching(where: ObservationGeometry, antenna: int) -> np.ndarray:
    """Which baselines have an antenna."""
    return (where.antenna1 == antenna) | (where.antenna2 == antenna)


def test_the_reference_is_central_and_good() -> None:
    where = geometry(9)
    distance = np.linalg.norm(where.positions_m - np.median(where.positions_m, axis=0), axis=1)
    central, second, third = np.argsort(distance)[:3]
    used = everything_used(where)
    flagged = reference_antenna.flagged_fraction(used, INTERVALS, where)
    assert reference_antenna.choose(averaged_with(where, noisy=-1, flagged=-1), flagged, where) == central
    used[:, touching(where, int(second))] = 0.5
    flagged = reference_antenna.flagged_fraction(used, INTERVALS, where)
    averaged = averaged_with(where, noisy=int(central), flagged=int(second))
    # Without the bad antenna the middle is another one, but neither bad antenna is chosen.
    assert reference_antenna.choose(averaged, flagged, where) not in (central, second)
    coherence = reference_antenna.coherence(averaged, where)
    assert coherence[central].max() < 0.3
    assert coherence[third].min() > 0.7
    np.testing.assert_allclose(flagged[:, second], 0.5)


def test_an_antenna_that_falls_silent_is_no_reference() -> None:
    where = geometry(9)
    averaged = averaged_with(where, noisy=-1, flagged=-1)
    used = everything_used(where)
    central = reference_antenna.choose(averaged, reference_antenna.flagged_fraction(used, INTERVALS, where), where)
    used[-1, touching(where, central)] = 0  # a third of the second interval, a sixth of the group
    flagged = reference_antenna.flagged_fraction(used, INTERVALS, where)
    assert reference_antenna.choose(averaged, flagged, where) != central


def test_without_data_there_is_no_reference() -> None:
    where = geometry()
    empty = averaged_with(where, noisy=-1, flagged=-1)
    empty.weights[:] = 0
    with pytest.raises(NoUsableDataError, match="no antenna"):
        reference_antenna.choose(empty, np.ones((2, 8)), where)


def test_another_antenna_stands_in_for_the_reference() -> None:
    """Phases of antennas drift apart by known amounts; the reference has no solution in the last two intervals."""
    rng = np.random.default_rng(5)
    phases = rng.uniform(-0.3, 0.3, (1, 6, 1, 2)) + np.zeros((5, 1, 1, 1))
    phases[:, 3] += 0.1 * np.arange(5)[:, None, None]
    turn = rng.uniform(-3, 3, (5, 1, 1, 2))  # a solution's common phase is arbitrary
    good = np.ones(phases.shape, bool)
    good[3:, 1] = False
    good[2, 4] = False
    snr = np.where(good, 100.0, 0)
    snr[:, 5] = 200.0
    referenced = reference_antenna.referenced(Solutions(np.exp(1j * (phases + turn)), good, snr), 1)
    expected = np.exp(1j * (phases - phases[:, 1:2]))
    np.testing.assert_allclose(referenced[good], expected[good], atol=1e-9)
    np.testing.assert_array_equal(referenced[~good], 1)


def fitted(source: model.Sky, where, scale: float) -> list[BrightSource]:
    """The sky's sources as they are fitted in an image whose gains are off by a scale."""
    apparent = scale * field_model.apparent_jy(source, where)
    index = np.log(source.flux_jy[:, -1] / source.flux_jy[:, 0])
    index /= np.log(where.frequencies_hz[-1] / where.frequencies_hz[0])
    columns = (source.ra_rad, source.dec_rad, apparent, source.flux_jy.mean(axis=1), index)
    return [BrightSource(*(float(value) for value in row)) for row in zip(*columns, strict=True)]


def test_fitted_fluxes_are_corrected_for_the_beam_and_the_gains_scale() -> None:
    where = geometry()
    source = sky(where)
    modelled = field_model.from_bright(fitted(source, where, 0.9), first(source), where, 0)
    np.testing.assert_allclose(modelled.flux_jy, source.flux_jy, rtol=1e-3)


def test_without_the_calibrator_in_the_image_nothing_is_believed() -> None:
    where = geometry()
    source = sky(where)
    others = [one for one in fitted(source, where, 1.0) if one.ra_rad != source.ra_rad[0]]
    assert len(field_model.from_bright(others, first(source), where, 0)) == 1
    assert len(field_model.from_bright([], first(source), where, 0)) == 1


def test_what_does_not_matter_is_left_out() -> None:
    where = geometry()
    source = sky(where)
    calibrator = first(source)
    at = calibrator.ra_rad[0], calibrator.dec_rad[0] + 1e-5  # 2″ away: the calibrator itself
    extra = model.Sky(
        np.array([at[0], CENTRE[0]]),
        np.array([at[1], CENTRE[1] + 0.01]),
        np.array([[8.0], [0.004]]) + np.zeros(CHANNELS),
    )
    joined = field_model.join(calibrator, extra.with_sources(source), where)
    assert len(joined) == 3
    np.testing.assert_allclose(joined.flux_jy, source.flux_jy)


def calibrator_json(where: ObservationGeometry) -> dict[str, object]:
    def entry(name: str, dec_rad: float, flux: float, compact: bool) -> dict[str, object]:
        flux_model = FluxModel.power_law(flux, -0.5, "test").to_json()
        place = {"ra_deg": np.degrees(CENTRE[0]), "dec_deg": np.degrees(dec_rad)}
        return {"name": name, **place, "flux_model": flux_model, "compact": compact}

    return {
        "calibrator": entry("cal", CENTRE[1], 8.0, True),
        "companions": [entry("point", CENTRE[1] + 0.01, 2.0, True), entry("wide", CENTRE[1] - 0.01, 2.0, False)],
    }


def test_the_model_starts_with_the_catalogued_point_sources() -> None:
    where = geometry()
    found = calibrator_json(where)
    alone = field_model.calibrator_sky(found, where.frequencies_hz)
    start, rounds = field_model.start(alone, found, where, Calibration(), SkyCatalogue())
    assert (len(start), rounds) == (2, 3)
    np.testing.assert_allclose(start.flux_jy[1], 2.0 * (where.frequencies_hz / 1.4e9) ** -0.5)


def test_a_sky_catalogue_is_the_model(tmp_path: Path) -> None:
    path = tmp_path / "sky.csv"
    ra, dec = np.degrees(CENTRE)
    path.write_text(
        "name,ra_deg,dec_deg,flux_jy\n"
        f"itself,{ra},{dec},7.5\nnear,{ra + 1},{dec},1.0\nfaint,{ra - 1},{dec},0.005\nfar,{ra + 90},{dec},9\n"
    )
    where = geometry()
    found = calibrator_json(where)
    alone = field_model.calibrator_sky(found, where.frequencies_hz)
    start, rounds = field_model.start(alone, found, where, Calibration(), SkyCatalogue(path=path))
    assert (len(start), rounds) == (2, 0)
    np.testing.assert_allclose(start.flux_jy[1], (where.frequencies_hz / 1.4e9) ** -0.7)


@pytest.mark.parametrize(
    "text", ["ra_deg,flux_jy\n1,2\n", "ra_deg,dec_deg,flux_jy\n1,x,2\n", "ra_deg,dec_deg,flux_jy\n1,95,2\n"]
)
def test_a_bad_sky_catalogue_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sky.csv"
    path.write_text(text)
    with pytest.raises(CatalogueError, match=r"sky\.csv"):
        sky_of(path)
    with pytest.raises(CatalogueError, match=r"none\.csv"):
        sky_of(tmp_path / "none.csv")
