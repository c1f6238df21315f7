"""Time taken from the wrong clock: the host's clock is set while groups wait."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import raw_groups

from contimg.core.paths import RawName

from .site import RECOVERY_S, site
from .watched_root import WatchedRoot

pytestmark = pytest.mark.slow


def test_the_clock_put_back_an_hour(tmp_path: Path, raw: list[list[Path]]) -> None:
    """What waits for its next try waits no longer for it than before."""
    with site(tmp_path, runner={"poll_seconds": 5}) as place:
        blocked = place.put_in_the_way()
        place.arrive(*raw[0])
        place.start()
        place.until(lambda: place.rows("SELECT due FROM groups WHERE error_class != ''"))
        blocked.unlink()
        place.clock.put(-3600)
        began = place.clock.now()
        place.until(lambda: "the clock was put back" in place.said())
        place.assert_converted(1)
        assert place.clock.now() - began < RECOVERY_S


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_clock_that_is_set_while_a_group_waits_for_its_subbands(
    tmp_path: Path, raw: list[list[Path]], step: int
) -> None:
    """The group waits as long as it would have, neither longer nor shorter."""
    waits_s = 180.0
    with site(tmp_path, ingest={"complete_within_minutes": waits_s / 60}, runner={"poll_seconds": 5}) as place:
        place.start()
        foreign = place.root.incoming / "foreign.hdf5"
        foreign.touch()
        place.until(lambda: foreign.name in place.said())  # a first look goes by the file system's clock, not by ours
        foreign.unlink()
        arrived = place.clock.now()
        place.arrive(*raw[0][:15])
        place.until(lambda: set(place.states().values()) == {"collecting"})
        place.clock.put(step)
        place.until(lambda: "the clock was put" in place.said())
        place.until(lambda: set(place.states().values()) == {"due"})
        waited = place.clock.now() - step - arrived
        assert waits_s <= waited < waits_s + 120
        place.assert_converted(1)
        assert place.clock.now() - step - arrived < waits_s + RECOVERY_S


@pytest.mark.parametrize("age_s", [7200.0, 86400.0 * 400, -86400.0], ids=["hours", "a year", "of tomorrow"])
@pytest.mark.parametrize("hours_off", [0, -8])
def test_a_backlog_that_keeps_its_times_over_restarts(tmp_path: Path, age_s: float, hours_off: int) -> None:
    """File by file, for longer than a group waits, with a runner that starts anew, from hosts in local time."""
    raw_groups.make(tmp_path / "there")
    watched = WatchedRoot(tmp_path)
    for number, path in enumerate(sorted((tmp_path / "there/incoming").iterdir())):
        name = RawName.parse(path.name)
        target = watched.root.incoming / str(replace(name, opened=name.opened + timedelta(hours=hours_off)))
        shutil.copyfile(path, target)
        os.utime(target, (time.time() - age_s,) * 2)
        watched.passes(20, 300)
        assert set(watched.states().values()) == ({"collecting"} if number < 15 else {"due"})
        if number % 5 == 4:
            watched.restart()
    assert watched.in_quarantine() == {}
    assert [len(group.good) for group in raw_groups.scan(watched.root).groups] == [16]
