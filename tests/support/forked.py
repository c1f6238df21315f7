"""Fresh processes, forked from one that has imported what most of them need: about a second saved of each.

Neither python-casacore nor casatools is among it, as the two must never meet in one process.
"""

from __future__ import annotations

import multiprocessing

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        *("pytest", "numpy", "scipy.ndimage", "scipy.optimize", "numba", "h5py", "hypothesis"),
        *("astropy.coordinates", "astropy.io.fits", "astropy.wcs"),
        *("snakemake.cli", "snakemake.report", "smart_open", "nbformat"),
        *("contimg.workflow.due", "contimg.workflow.start", "contimg.workflow.tries"),
    ]
)
