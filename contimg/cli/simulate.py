"""Simulate raw DSA-110 groups of a known sky (a calibrator, a list, random sources) around a transit."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import date
from pathlib import Path

from pydantic import ValidationError

from contimg.cli.settings import utc_day
from contimg.core.errors import ConfigError
from contimg.core.sections import Beam

DAY = date(2026, 1, 12)
_MADE = ("calibrator", "random")
"""Kinds of simulated sources besides source lists."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("directory", type=Path, help="folder for the raw files; truth.json is written beside it")
    parser.add_argument("--preset", choices=["small", "full"], default="small", help="size of the array")
    parser.add_argument("--groups", type=_number(int, 1), default=6, help="number of groups")
    parser.add_argument(
        "--sky",
        type=lambda text: text.split(","),
        metavar="WHAT[,WHAT]",
        default="calibrator,random",
        help="what is in the sky, and nothing else: calibrator (the one that transits), random (sources all along the"
        " drift, as many as surveys count), or a CSV list with the columns ra_deg, dec_deg, flux_jy (at 1.4 GHz) and,"
        " if known, name and spectral_index",
    )
    parser.add_argument("--calibrator", default="J0834+5534", help="source that transits; may be of the list")
    parser.add_argument(
        "--before", type=_number(int, 0), default=2, help="groups before the one in which it transits"
    )
    parser.add_argument("--day", type=utc_day, default=DAY, help="UTC day of the transit")
    parser.add_argument("--declination", type=float, default=54.57, help="pointing (deg)")
    parser.add_argument("--min-flux", type=float, default=0.01, help="faintest random source (Jy)")
    parser.add_argument("--max-flux", type=float, default=1.0, help="brightest random source (Jy)")
    parser.add_argument("--sefd", type=_number(float, 0), default=6500.0, help="noise of one antenna (Jy); 0: none")
    parser.add_argument(
        "--rfi", type=_number(int, 0), default=0, help="persistent narrow-band transmitters, and bursts a group"
    )
    parser.add_argument("--dead", type=int, nargs="*", default=(), help="0-based numbers of dead antennas")
    parser.add_argument(
        "--name-spread", type=_number(float, 0), default=1.0, help="spread of a group's file names (s)"
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="KIND:GROUP[:SUBBANDS]", help="e.g. zeroed:3:5,6 (repeatable)"
    )
    parser.add_argument(
        "--beam",
        type=_beam,
        metavar="MODEL[:DEG]",
        default="airy",
        help="primary beam and its width at 1.4 GHz: airy, gaussian or cosine-tapered",
    )
    parser.add_argument("--seed", type=int, default=1, help="same seed, same files")


def _number(kind: type[int] | type[float], least: int) -> Callable[[str], float]:
    """Argparse type of a number with a lower limit."""

    def number(text: str) -> float:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text}: at least {least} is needed")
        return value

    return number


def run(options: argparse.Namespace) -> int:
    """Simulate raw files and write them."""
    from contimg.catalogues import source_table
    from contimg.simulator import scenarios, simulator, sky

    preset = simulator.PRESETS[options.preset]
    listed = [source for part in options.sky if part not in _MADE for source in source_table.read_sources(Path(part))]
    named = (source for source in listed if source.name == options.calibrator)
    calibrator = next(named, None) or sky.calibrator(options.calibrator)
    start = scenarios.start_for_transit(calibrator, options.day, options.before, preset.length_s)
    field = [calibrator] if "calibrator" in options.sky and calibrator not in listed else []
    field += listed
    if "random" in options.sky:
        field += scenarios.random_field(
            start,
            groups=options.groups,
            group_s=preset.length_s,
            declination_deg=options.declination,
            min_flux_jy=options.min_flux,
            max_flux_jy=options.max_flux,
            seed=options.seed,
        )
    simulator.simulate(
        options.directory,
        start,
        options.groups,
        preset=preset,
        sky=field,
        declination_deg=options.declination,
        noise=simulator.Noise(options.sefd) if options.sefd else simulator.Noise(enabled=False),
        interference=simulator.Interference(options.rfi, options.rfi),
        dead=simulator.DeadAntennas(tuple(options.dead)),
        naming=simulator.Naming(spread_s=options.name_spread),
        fault_list=[_fault(text) for text in options.fault],
        primary_beam=options.beam,
        seed=options.seed,
    )
    print(f"{options.groups} groups in {options.directory}, the truth in {options.directory.parent / 'truth.json'}")
    return 0


def _beam(text: str) -> Beam:
    """Beam from `MODEL:FWHM`."""
    model, _, width = text.partition(":")
    try:
        return Beam.model_validate({"model": model, **({"fwhm_deg": width} if width else {})})
    except ValidationError as error:
        raise argparse.ArgumentTypeError(f"{text}: not MODEL:DEG ({error.errors()[0]['msg']})") from None


def _fault(text: str):
    """Fault from `KIND:GROUP[:SUBBANDS]`."""
    from contimg.simulator.simulator import Fault, FaultKind

    try:
        kind, group, *rest = text.split(":")
        subbands = {"subbands": tuple(int(number) for number in rest[0].split(","))} if rest else {}
        return Fault(FaultKind(kind), int(group), **subbands)
    except ValueError:
        kinds = ", ".join(kind.value for kind in FaultKind)
        raise ConfigError(f"--fault {text}: not KIND:GROUP[:SUBBANDS] with a kind of {kinds}; correct it") from None
