"""Transits of calibrators at the declination pointed at, and whether each will serve."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta

from contimg.cli.settings import add_settings, load_settings, utc_time
from contimg.core.errors import ConfigError
from contimg.core.paths import DataRoot, jd_to_datetime

_SHOWN = 0.1
"""Lowest flux of a listed source, as a fraction of `calibration.min_apparent_flux_jy`."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--declination", type=float, help="apparent declination (deg); default: of the newest group")
    parser.add_argument("--after", type=utc_time, metavar="UTC", help="start of the list (default: now)")
    parser.add_argument("--json", action="store_true", help="as JSON, with all details")
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Print the transits of a sidereal day, in order of time."""
    from contimg.calibrators.detect import DetectionSettings
    from contimg.calibrators.transits import current_pointing, upcoming
    from contimg.catalogues import calibrator_catalogue

    settings = load_settings(options)
    declination_deg = options.declination
    if declination_deg is None:
        pointing = current_pointing(DataRoot(settings.data_root))
        if pointing is None:
            raise ConfigError(f"{settings.data_root}: no group tells where the telescope points; give --declination")
        _, declination_deg = pointing
    after = options.after or datetime.now(UTC)
    sources = calibrator_catalogue.load(settings.calibration)
    found = upcoming(declination_deg, after, sources, settings.part(DetectionSettings))
    if options.json:
        content = {"declination_deg": declination_deg, "after_utc": after.isoformat(timespec="seconds")}
        print(json.dumps({**content, "transits": [transit.to_json() for transit in found]}, indent=1))
        return 0
    print(f"transits at declination {declination_deg:+.2f}° from {after:%Y-%m-%d %H:%M:%S} UTC")
    least_jy = _SHOWN * settings.calibration.min_apparent_flux_jy
    shown = [transit for transit in found if transit.seen.apparent_flux_jy >= least_jy]
    for transit in shown:
        time = jd_to_datetime(transit.transit_jd)
        hours, minutes = divmod(int((time - after) / timedelta(minutes=1)), 60)
        print(
            f"{time:%Y-%m-%d %H:%M:%S}  in {hours:2d} h {minutes:02d}  {transit.seen.source.name:12} "
            f"{transit.seen.apparent_flux_jy:7.2f} Jy  {'serves' if transit.serves else 'no'}: {transit.reason}"
        )
    if not found:
        print("no source of the catalogue transits in the beam")
    elif fainter := len(found) - len(shown):
        print(f"and {fainter} under {least_jy:g} Jy in the beam (with --json)")
    return 0
