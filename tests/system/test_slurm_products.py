"""Products made on two Slurm nodes, against those of one host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slurm_cluster
from astropy.io import fits
from slurm_cluster import NODES, Cluster
from slurm_place import LIMIT_S, Place

from contimg.core.products import PRODUCTS
from contimg.deploy import kernels

pytestmark = pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing())


def test_the_products_are_those_of_one_host_bit_for_bit(tmp_path: Path, slurm: Cluster) -> None:
    kernels.compile_all()  # a process that compiles a kernel itself rounds otherwise than all that follow
    places = [Place(tmp_path / name, where, 6) for name, where in (("far", slurm), ("near", None))]
    for place, runner in [(place, place.start("--once")) for place in places]:
        assert runner.wait(LIMIT_S) == 0, place.log
        place.all_done()
    far, near = places
    hosts = {record.host for group in far.groups for record in far.attempts(group, "convert")}
    assert hosts == set(NODES)
    compared, differ = 0, {}
    for product in ("image", "image_noise", "image_pb", "mosaic"):
        for path in near.root.root.glob(PRODUCTS[product].pattern):
            here, there = (fits.getdata(each) for each in (path, far.root.root / path.relative_to(near.root.root)))
            if here.tobytes() != there.tobytes():
                differ[path.name] = float(np.nanmax(np.abs(here - there)) / np.nanmax(np.abs(here)))
            compared += 1
    assert differ == {}
    assert compared == 3 * 6 + 1
