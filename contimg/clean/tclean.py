"""CASA's tclean, with the options of WSClean, in a process of its own."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

from contimg.clean.options import EXTERNAL_MAJOR_GAIN, CleanOptions, Products
from contimg.core.errors import ContimgError, ToolFailedError
from contimg.core.units import SPEED_OF_LIGHT
from contimg.job.error_patterns import recognized
from contimg.visibilities import casa, subprocess_call

_LOG = logging.getLogger(__name__)

_PRODUCTS = ("residual", "model", "psf")
_LEFT_OVER = (*_PRODUCTS, "image", "pb", "sumwt", "mask", "components", "weight")
_PLANES_PER_TURN = 4
"""Number of w-planes for each turn of phase by w at the corner of the field."""
_MASK_MARGIN = 3
"""Radius (pixels) of the deeper cleaning around a component."""


def clean(ms: Path, prefix: Path, options: CleanOptions) -> Products:
    """Image and clean with tclean; see `imager.clean`."""
    return subprocess_call.call(options.threads, _clean, ms, prefix, options)


def _clean(ms: Path, prefix: Path, options: CleanOptions) -> Products:
    """Clean all bright sources, then deeper around the components.

    CASA's own automatic masks find no sources beside the high sidelobes of this array's dirty beam.
    """
    ms, prefix = ms.absolute(), prefix.absolute()
    os.chdir(prefix.parent)  # CASA writes its temporary lattices into the current folder
    log = prefix.with_name(f"{prefix.name}-casa.log")
    tasks, tools = casa.tasks(log), casa.tools(log)
    image = tools.image()
    name = {product: f"{prefix}.{product}" for product in _LEFT_OVER}
    try:
        common = _arguments(ms, prefix, options, _farthest_wavelengths(tools.table(), ms))
        _LOG.info("tclean(%s)", ", ".join(f"{key}={value!r}" for key, value in common.items()))
        tasks.tclean(**common, nsigma=options.mask_sigma, restoration=False)
        found = Path(name["model"]).exists()
        if found:
            _write_mask(image, name["model"], f"{prefix}.cleaned")
            shutil.rmtree(name["mask"], ignore_errors=True)
        # Without components, only restoring makes the (empty) model.
        tasks.tclean(
            **common,
            nsigma=options.threshold_sigma if found else options.mask_sigma,
            restoration=True,
            calcpsf=False,
            calcres=False,
            mask=f"{prefix}.cleaned" if found else "",
        )
        for product in _PRODUCTS:
            tasks.exportfits(imagename=name[product], fitsimage=f"{prefix}-{product}.fits", overwrite=True)
    except RuntimeError as error:
        raise _meaning(ms, str(error)) from error
    for product in (*_LEFT_OVER, "cleaned"):
        shutil.rmtree(f"{prefix}.{product}", ignore_errors=True)
    return Products(*(prefix.with_name(f"{prefix.name}-{product}.fits") for product in _PRODUCTS))


def _arguments(ms: Path, prefix: Path, options: CleanOptions, farthest_wavelengths: float) -> dict[str, Any]:
    """Common arguments of both calls of tclean."""
    corner_rad = options.size * options.pixel_rad / np.sqrt(2)
    turns = farthest_wavelengths * (1 - np.cos(corner_rad))
    return {
        "vis": str(ms),
        "imagename": str(prefix),
        "datacolumn": "data",
        "imsize": options.size,
        "cell": f"{np.degrees(options.pixel_rad) * 3600:.12g}arcsec",
        "stokes": "I",
        "gridder": "wproject",
        "wprojplanes": max(4, int(np.ceil(_PLANES_PER_TURN * turns))),
        "pblimit": -0.1,
        "deconvolver": "hogbom",
        "weighting": "briggs",
        "robust": options.robust,
        "niter": options.iterations,
        "nmajor": options.major_iterations,
        "gain": 0.1,
        "minpsffraction": 1 - EXTERNAL_MAJOR_GAIN,
        "maxpsffraction": 1 - EXTERNAL_MAJOR_GAIN,
        "usemask": "user",
        "interactive": False,
    }


def _farthest_wavelengths(table: Any, ms: Path) -> float:
    """Largest |w| of the data (wavelengths)."""
    table.open(str(ms))
    farthest_m = float(np.abs(table.getcol("UVW")[2]).max())
    table.close()
    table.open(str(ms / "SPECTRAL_WINDOW"))
    highest_hz = float(table.getcol("CHAN_FREQ").max())
    table.close()
    return farthest_m * highest_hz / SPEED_OF_LIGHT


def _write_mask(image: Any, model: str, mask: str) -> None:
    """Write a CASA image that is 1 around the components of a model image."""
    image.open(model)
    components = image.getchunk()[:, :, 0, 0] != 0
    around = binary_dilation(components, iterations=_MASK_MARGIN)
    made = image.newimagefromimage(model, mask, overwrite=True)
    made.putchunk(around[:, :, np.newaxis, np.newaxis].astype(float))
    made.close()
    image.close()


def _meaning(ms: Path, said: str) -> ContimgError:
    """Typed error for a message of CASA."""
    if found := recognized(said):
        return found.as_error(str(ms), "tclean")
    line = said.strip().splitlines()[0] if said.strip() else "no message"
    return ToolFailedError(f"{ms}: tclean failed ({line}); the job fails")
