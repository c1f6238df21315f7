"""In each stage: somebody is killed, and the data disk is full."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from small_disks import fill, small_disk

from contimg.core.processes import is_running

from .site import Caught, Site, site

pytestmark = [pytest.mark.slow, pytest.mark.mounts]

CALIBRATOR = 1
"""Which of the raw groups it is."""
RULES = ("detect", "convert", "solve", "image", "mosaic")
LIGHT = ("detect", "convert", "mosaic")
"""Those whose work is soon done again: in the short form the disk is full in these."""
VICTIMS = ("child", "Snakemake", "supervisor", "runner")


@pytest.mark.parametrize("first", VICTIMS)
def test_in_each_stage_somebody_is_killed_and_the_disk_is_full(
    tmp_path: Path, raw: list[list[Path]], long: bool, first: str
) -> None:
    """Stage by stage the next one of the victims, so that in the long form each is killed in each."""
    if not long and first != "child":
        pytest.skip("in the long form")
    with small_disk(tmp_path / "data", "600m") as disk, site(tmp_path) as place:
        place.arrive(*raw[CALIBRATOR])
        place.start()
        for number, rule in enumerate(RULES, VICTIMS.index(first)):
            failed = f"SELECT error_class FROM attempts WHERE outcome = 'failed' AND rule = '{rule}'"  # noqa: S608

            caught = place.caught(rule)
            kill(place, rule, caught, VICTIMS[number % len(VICTIMS)])
            assert place.until(lambda sql=failed: place.rows(sql)) == [("died",)]
            place.assert_resumes(caught.unit)
            assert place.books().problems == []

            if rule not in LIGHT and not long:
                continue
            caught = place.caught(rule)
            ballast = fill(disk)
            caught.resume()
            place.until(lambda caught=caught: gone(caught))
            ballast.unlink()
            place.until(lambda sql=failed: len(place.rows(sql)) == 2)
            place.assert_resumes(caught.unit)
            assert place.books().problems == []
        place.assert_ended(1)


def kill(place: Site, rule: str, caught: Caught, victim: str) -> None:
    """Kill one of those who have a job in hand."""
    if victim == "child":
        caught.children[0].kill()
        caught.supervisor.resume()
    elif victim == "supervisor":
        caught.supervisor.kill()
    elif victim == "Snakemake":
        ((call,),) = place.rows(f"SELECT pid FROM calls WHERE lane = '{rule}'")  # noqa: S608
        psutil.Process(call).kill()
    else:
        place.kill()
        place.start()
    place.until(lambda: gone(caught))


def gone(caught: Caught) -> bool:
    """Whether none of a job's processes is there."""
    return not any(map(is_running, (*caught.children, caught.supervisor)))
