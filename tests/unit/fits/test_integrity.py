"""A FITS file that is whole, and those that are not."""

import astropy.io.fits
import numpy as np
from synthetic_root import fits_bytes

from contimg.fits import integrity


def test_whole_fits(tmp_path):
    path = tmp_path / "checked.fits"
    values = np.random.default_rng(1).normal(size=(90, 90)).astype(">f4")
    astropy.io.fits.PrimaryHDU(values).writeto(path, checksum=True)
    assert integrity.is_complete(path)
    with path.open("r+b") as file:
        file.seek(9000)
        file.write(b"\0" * 512)  # as a disk may, after a power failure
    assert not integrity.is_complete(path)
    path = tmp_path / "a.fits"
    assert not integrity.is_complete(path)
    for content, whole in ((fits_bytes("x"), True), (fits_bytes("x") * 2, True), (b"", False), (b"x" * 9000, False)):
        path.write_bytes(content)
        assert integrity.is_complete(path) is whole
    path.write_bytes(fits_bytes("x")[:-1])
    assert not integrity.is_complete(path)
