"""Time taken from the wrong clock: the host's clock is set while groups wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from .site import RECOVERY_S, site

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
