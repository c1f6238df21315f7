"""Demo: half an hour of simulated sky around a calibrator's transit, mosaicked and compared with the truth."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from contimg.core.config import ENVIRONMENT_PREFIX
from contimg.core.files import read_json
from contimg.core.paths import DataRoot
from contimg.core.processes import end_with_parent
from contimg.core.products import PRODUCTS, Role
from contimg.schedule.profile import on_slurm
from contimg.telescope.beam import separation
from contimg.telescope.dsa110 import SUBBANDS

CALIBRATOR = "J0834+5534"
DAY = date(2026, 1, 12)
GROUPS, GROUPS_BEFORE = 6, 2
MIN_FLUX_JY, MAX_FLUX_JY = 0.02, 1.0
SEED = 1

MIN_SNR = 20.0
"""Lowest signal-to-noise ratio of the sources, inside the half-power beam, that must be recovered."""
MAX_FLUX_ERROR = 0.03
"""Largest flux error of a recovered source, as a fraction (or 3σ)."""
MAX_OFFSET_BEAMS = 0.1
"""Largest position error of a recovered source, in synthesized beams."""
MIN_RECOVERED = 0.9
"""Smallest share of recovered sources for a group to pass."""
_ISOLATION_BEAMS = 3.0
"""Isolation (synthesized beams): a compared source has no neighbour of 3 % of its flux within this distance."""

SIMULATION_S, REPORT_S = 12.0, 3.0
"""Typical run times (s) of the whole simulation and of the report."""


def write_settings(root: DataRoot) -> None:
    """Write the demo's settings: all defaults, except for one mosaic of all groups."""
    root.root.mkdir(parents=True, exist_ok=True)
    settings = {"data_root": str(root.root), "mosaic": {"window_minutes": 120}}
    (root.root / "config.yaml").write_text(yaml.safe_dump(settings), "utf-8")


def start_simulation(root: DataRoot) -> subprocess.Popen[bytes]:
    """Start the simulation of the groups in a process with one thread, which is fastest for arrays this small."""
    command = [sys.executable, "-m", "contimg", "simulate", str(root.incoming), "--preset", "small"]
    command += ["--calibrator", CALIBRATOR, "--day", str(DAY), "--seed", str(SEED)]
    command += ["--groups", str(GROUPS), "--before", str(GROUPS_BEFORE)]
    command += ["--min-flux", str(MIN_FLUX_JY), "--max-flux", str(MAX_FLUX_JY)]
    return _start(command, root, Path.cwd(), OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")


def simulated(root: DataRoot, since: float) -> float:
    """Number of groups, with fractions, simulated since a time (Unix, s)."""
    written = sum(path.stat().st_mtime >= since for path in root.incoming.glob("*_sb??.hdf5"))
    return written / SUBBANDS


def pictures(root: DataRoot) -> int:
    """Number of pictures for the report."""
    shown = (product.pattern for product in PRODUCTS.values() if product.role is Role.PICTURE)
    return sum(1 for pattern in shown for path in root.root.glob(pattern) if path.suffix == ".png")


def start_snakemake(checkout: Path, root: DataRoot, profile: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start Snakemake on the demo's data root as a user would, with Slurm's logs in the data root."""
    command = [sys.executable, "-m", "snakemake", "--configfile", str(root.root / "config.yaml")]
    command += ["--profile", str(profile)]
    command += ["--slurm-logdir", str(root.root / "logs" / "slurm")] if on_slurm(profile) else []
    command += arguments
    return _start(command, root, checkout)


def _start(command: list[str], root: DataRoot, directory: Path, **variables: str) -> subprocess.Popen[bytes]:
    """Start a command that ends with this process: output to demo.log, caches outside the home folder.

    It has no settings from the environment.
    """
    cache = str(root.root / "state" / "cache")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    environment = {**kept, "XDG_CACHE_HOME": cache, "XDG_CONFIG_HOME": cache, **variables}
    with log_path(root).open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=partial(end_with_parent, os.getpid()),  # noqa: PLW1509 — two system calls, no lock and no import
        )


def reported(root: DataRoot, since: int) -> int:
    """Number of pictures that Snakemake has put into the report, from the log after byte `since`."""
    with log_path(root).open("rb") as log:
        log.seek(since)
        return len(re.findall(rb"^Adding .*\.png", log.read(), re.MULTILINE))


def log_path(root: DataRoot) -> Path:
    """Log of the simulation and of Snakemake."""
    return root.root / "demo.log"


@dataclass(frozen=True)
class Recovery:
    """Comparison of a group's image with the simulated sky.

    Attributes
    ----------
    expected, recovered
        Numbers of isolated sources that must be recovered, and that are.
    flux_ratio
        Median of measured over true flux.
    """

    expected: int
    recovered: int
    flux_ratio: float

    @property
    def enough(self) -> bool:
        """Whether the image passes: some sources were expected, and enough of them are recovered."""
        return self.expected > 0 and self.recovered >= MIN_RECOVERED * self.expected


@dataclass(frozen=True)
class _Measured:
    """Measured peak: flux (Jy), local noise (Jy), and distance from the true position (beams)."""

    flux_jy: float
    noise_jy: float
    offset_beams: float


def recovery(root: DataRoot, group: str) -> Recovery:
    """Compare a group's image with the true sources, which the pipeline has not seen."""
    sky = read_json(root.root / "truth.json")["sky"]
    ra, dec, flux = (np.array([source[key] for source in sky]) for key in ("ra_deg", "dec_deg", "flux_jy"))
    with fits.open(root.image(group)) as opened:
        image, header = np.squeeze(opened[0].data), opened[0].header
    noise, pb = (np.squeeze(fits.getdata(root.image(group, name))) for name in ("noise.fits", "pb.fits"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # a warning for every date that astropy parses
        wcs = WCS(header).celestial
    x, y = wcs.wcs_world2pix(ra, dec, 0)
    beam_px = np.sqrt(header["BMAJ"] * header["BMIN"]) / abs(header["CDELT1"])
    ratios, good = [], 0
    for k in np.nonzero((np.abs(x - image.shape[1] / 2) < 0.49 * image.shape[1]) & np.isfinite(x))[0]:
        row, column = round(float(y[k])), round(float(x[k]))
        inside = 0 <= row < image.shape[0] and pb[row, column] > 0.5
        if not inside or flux[k] < MIN_SNR * noise[row, column] or not _isolated(k, ra, dec, flux, header["BMAJ"]):
            continue
        peak = _measure(image, noise, x[k], y[k], beam_px)
        ratios.append(peak.flux_jy / flux[k])
        error = abs(peak.flux_jy - flux[k])
        near = peak.offset_beams < MAX_OFFSET_BEAMS
        good += bool(near and error < max(MAX_FLUX_ERROR * flux[k], 3 * peak.noise_jy))
    return Recovery(len(ratios), good, float(np.median(ratios)) if ratios else float("nan"))


def _isolated(k: int, ra: np.ndarray, dec: np.ndarray, flux: np.ndarray, beam_deg: float) -> bool:
    """Whether source `k` has no neighbour of relevant flux."""
    distance = separation(np.radians(ra[k]), np.radians(dec[k]), np.radians(ra), np.radians(dec))
    near = (distance < np.radians(_ISOLATION_BEAMS * beam_deg)) & (flux > MAX_FLUX_ERROR * flux[k])
    return int(near.sum()) == 1


def _measure(image: np.ndarray, noise: np.ndarray, x: float, y: float, beam_px: float) -> _Measured:
    """Peak of the Gaussian through the highest pixel within half a beam of (x, y)."""
    reach = max(2, round(beam_px / 2))
    row, column = round(float(y)), round(float(x))
    box = image[row - reach : row + reach + 1, column - reach : column + reach + 1]
    step_row, step_column = np.unravel_index(np.nanargmax(box), box.shape)
    row, column = row - reach + int(step_row), column - reach + int(step_column)
    shift, gain = [0.0, 0.0], 1.0
    for axis, (before, after) in enumerate(
        ((image[row, column - 1], image[row, column + 1]), (image[row - 1, column], image[row + 1, column]))
    ):
        low, top, high = np.log(np.maximum([before, image[row, column], after], 1e-9))
        shift[axis] = 0.5 * (low - high) / (low - 2 * top + high)
        gain *= np.exp(-0.25 * (low - high) * shift[axis])
    offset = np.hypot(column + shift[0] - x, row + shift[1] - y)
    return _Measured(float(image[row, column] * gain), float(noise[row, column]), float(offset / beam_px))
