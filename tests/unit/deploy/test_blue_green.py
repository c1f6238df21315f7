"""The plan of a deployment, against a host in which runners hold a lease and fail when they are told to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deploying_host import AT_WORK, BEGUN, DOWN, STANDS_BY, STOPS, Host

from contimg.deploy.blue_green import (
    ELSEWHERE,
    READY_S,
    RESTARTS,
    Action,
    Deployment,
    HostState,
    Phase,
    Step,
    UnitState,
    next_step,
)


def deployed(host: Host, deployment: Deployment = BEGUN) -> Deployment:
    """A deployment at its end."""
    for _ in range(200):
        step = next_step(deployment, host.see(deployment), 60)
        host.do(step.action, step.colour)
        if step.phase:
            deployment = replace(
                deployment, phase=step.phase, since=host.now, reason=step.reason or deployment.reason
            )
        if deployment.phase.ended:
            assert host.in_use == (deployment.new if deployment.phase == Phase.DONE else deployment.old)
            return deployment
    raise AssertionError(f"no end: {deployment} {host}")


def test_green_takes_over_once_and_blue_is_stopped() -> None:
    host = Host()
    assert deployed(host).phase == Phase.DONE
    assert host.took_over == ["green"]
    assert host.runners == {"blue": DOWN, "green": AT_WORK}
    assert host.services == {"blue": DOWN, "green": AT_WORK}
    assert host.now > 60


def test_an_old_release_that_cannot_start_any_more_holds_nothing_up() -> None:
    """It shall stand by, in case the new one fails; it was started for ever, and no probation began."""
    host = Host(runners={"blue": DOWN, "green": AT_WORK}, holder="green")
    plan = replace(BEGUN, phase=Phase.TAKE_OVER)
    assert next_step(plan, host.see(plan), 60) == Step(Action.STAND_BY, "blue")
    host.now = READY_S
    assert next_step(plan, host.see(plan), 60) == Step(Action.SERVE, "green")


@pytest.mark.parametrize(
    ("phase", "how", "why"),
    [
        (Phase.TAKE_OVER, "crash", "does not stay up"),
        (Phase.TAKE_OVER, "crash at work", "does not stay up"),
        (Phase.TAKE_OVER, "hang", f"not ready within {READY_S:.0f} s"),
        (Phase.PROBATION, "crash", "did not stay up"),
        (Phase.PROBATION, "silent", "did not answer"),
        (Phase.PROBATION, "deaf", "did not answer"),  # the hand-over was asked of it for ever
    ],
)
def test_a_release_that_fails_gives_way(phase: Phase, how: str, why: str) -> None:
    host = Host(phase, how)
    ended = deployed(host)
    assert ended.phase == Phase.GONE_BACK
    assert why in ended.reason
    assert host.holder == "blue"
    assert host.runners == {"blue": AT_WORK, "green": DOWN}
    assert host.services == {"blue": AT_WORK, "green": DOWN}


def test_a_service_that_is_not_in_use_is_not_started() -> None:
    host = Host()
    host.services["blue"] = AT_WORK  # somebody else's port, which stays
    assert deployed(host, replace(BEGUN, serves=False)).phase == Phase.DONE
    assert host.services == {"blue": AT_WORK, "green": DOWN}


def test_without_a_way_back_the_new_release_stays() -> None:
    """The old runner was started for ever, and the command never ended."""
    host = Host(Phase.PROBATION, "silent", broken=("blue",))
    ended = deployed(host)
    assert ended.phase == Phase.DONE
    assert "did not answer in its probation; there is no way back" in ended.reason
    assert host.took_over == ["green"]
    assert host.runners == {"blue": DOWN, "green": AT_WORK}
    assert host.services == {"blue": DOWN, "green": AT_WORK}


@pytest.mark.parametrize("unit", [UnitState("activating"), DOWN], ids=["it hangs", "it is not started"])
def test_a_runner_that_takes_too_long_to_go_back_to_is_given_up(unit: UnitState) -> None:
    back = replace(BEGUN, phase=Phase.BACK, since=1000.0)
    host = Host(now=1000 + READY_S - 1, runners={"blue": unit, "green": AT_WORK}, holder="green")
    assert next_step(back, host.see(back), 60).phase is None
    assert next_step(back, host.see(back), 60).phase == Phase.STAY


@pytest.mark.parametrize(
    "never",
    [UnitState("activating", restarts=RESTARTS), UnitState("activating"), DOWN],
    ids=["crashes", "hangs", "down"],
)
def test_where_no_release_starts_the_command_gives_up(never: UnitState) -> None:
    """A release that systemd did not even start was started for ever."""
    stay = replace(BEGUN, phase=Phase.STAY)
    units = {"blue": UnitState("activating", restarts=RESTARTS), "green": DOWN}
    services = {"blue": DOWN, "green": AT_WORK}
    assert next_step(stay, HostState(1.0, units, services, ""), 60) == Step(Action.STAND_BY, "green")
    units["green"] = never
    step = next_step(stay, HostState(READY_S + 1, units, services, ""), 60)
    assert step.action == Action.GIVE_UP
    assert "the runner of green does not start either" in step.reason


def test_an_old_release_that_was_mended_meanwhile_is_for_a_person_to_choose() -> None:
    host = Host(now=READY_S, runners={"blue": AT_WORK, "green": STANDS_BY})
    stay = replace(BEGUN, phase=Phase.STAY)
    assert "blue has the lease" in next_step(stay, host.see(stay), 60).reason
    assert deployed(host, replace(stay, phase=Phase.BACK)).phase == Phase.GONE_BACK


@pytest.mark.parametrize(
    ("old", "holder", "unknown", "why"),
    [
        (STANDS_BY, ELSEWHERE, "", "another process has the lease"),
        (STANDS_BY, "", "", "nobody has the lease"),
        (STANDS_BY, "", "runner.lock: cannot be read", "runner.lock: cannot be read"),
        (AT_WORK, "", "", "nobody has the lease"),
        (AT_WORK, "green", "", "green has the lease"),
    ],
    ids=["another process", "nobody", "not known", "nobody, and the old one works", "not the one that works"],
)
@pytest.mark.parametrize("phase", [Phase.BACK, Phase.STAY])
def test_a_lease_that_does_not_come_is_not_waited_for_for_ever(
    phase: Phase, old: UnitState, holder: str, unknown: str, why: str
) -> None:
    plan = replace(BEGUN, phase=phase, since=1000.0)
    units = {"blue": old, "green": STANDS_BY}
    seen = HostState(1000.0 + READY_S, units, {"blue": DOWN, "green": AT_WORK}, holder, unknown)
    if (phase, holder) == (Phase.STAY, "green"):
        assert next_step(plan, seen, 60) == Step(Action.ENTER, phase=Phase.FINISH)
        return
    assert next_step(plan, seen, 60).action == Action.WAIT
    step = next_step(plan, replace(seen, now=seen.now + 1), 60)
    assert step.action == Action.GIVE_UP
    assert why in step.reason


def test_going_back_leaves_the_old_runner_time_after_the_new_one_has_ended() -> None:
    """The new runner did not hand over, was stopped, and its jobs took long."""
    plan = replace(BEGUN, phase=Phase.BACK)
    seen = HostState(5000.0, {"blue": STANDS_BY, "green": STOPS}, {"blue": DOWN, "green": AT_WORK}, "")
    assert next_step(plan, seen, 60).action == Action.WAIT
    ended = {"blue": STANDS_BY, "green": replace(DOWN, since=5000.0)}
    assert next_step(plan, replace(seen, now=5000 + READY_S, runners=ended), 60).action == Action.WAIT
    assert next_step(plan, replace(seen, now=5001 + READY_S, runners=ended), 60).action == Action.GIVE_UP


def test_a_release_that_lost_the_lease_before_the_end_gives_way() -> None:
    """The host was started again in between, with the old release: its runner, the only one, was stopped."""
    host = Host()
    ended = deployed(host, replace(BEGUN, phase=Phase.FINISH))
    assert ended.phase == Phase.GONE_BACK
    assert "its runner lost the lease before that of blue was stopped" in ended.reason
    assert host.took_over == []
    assert host.runners == {"blue": AT_WORK, "green": DOWN}
    assert host.services == {"blue": AT_WORK, "green": DOWN}


@pytest.mark.parametrize("holder", ["", "blue", ELSEWHERE])
def test_a_release_that_stays_and_loses_the_lease_again_is_for_a_person(holder: str) -> None:
    """From its end it went back, from there it stayed, and so on."""
    plan = replace(BEGUN, phase=Phase.FINISH, reason="it was not ready")
    units = {"blue": DOWN, "green": UnitState("activating", restarts=RESTARTS)}
    step = next_step(plan, HostState(1.0, units, {"blue": DOWN, "green": AT_WORK}, holder), 60)
    assert step.action == Action.GIVE_UP
    assert step.reason == "it was not ready; its runner lost the lease before that of blue was stopped"


@pytest.mark.parametrize("phase", [Phase.TAKE_OVER, Phase.PROBATION, Phase.FINISH])
def test_a_lease_whose_holder_is_not_known_is_the_reason(phase: Phase) -> None:
    """The reason was that a runner did not stay up."""
    plan = replace(BEGUN, phase=phase)
    units = {"blue": STANDS_BY, "green": AT_WORK}
    why = "runner.lock: cannot be read"
    seen = HostState(READY_S + 1, units, {"blue": DOWN, "green": AT_WORK}, "", why)
    assert next_step(plan, seen, 60) == Step(Action.ENTER, phase=Phase.BACK, reason=why)


def test_going_back_on_request_from_the_probation() -> None:
    host = Host()
    host.runners, host.holder = {"blue": STANDS_BY, "green": AT_WORK}, "green"
    host.services = {"blue": DOWN, "green": AT_WORK}
    assert deployed(host, replace(BEGUN, phase=Phase.BACK)).phase == Phase.GONE_BACK
    assert host.took_over == ["blue"]
    assert host.services == {"blue": AT_WORK, "green": DOWN}
