"""The plan of a deployment, against a host in which runners hold a lease and fail when they are told to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deploying_host import AT_WORK, BEGUN, DOWN, STANDS_BY, Host

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
        if step.action in (Action.CHECK, Action.USE):
            phase = Phase.TAKE_OVER if step.action == Action.CHECK else Phase.DONE
            deployment = replace(deployment, phase=phase, since=host.now)
        elif step.phase:
            deployment = replace(
                deployment, phase=step.phase, since=host.now, reason=step.reason or deployment.reason
            )
        else:
            host.do(step.action, step.colour)
        if deployment.phase.ended:
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


@pytest.mark.parametrize("phase", [Phase.BACK, Phase.STAY])
def test_a_lease_held_by_neither_release_is_not_waited_for_for_ever(phase: Phase) -> None:
    host = Host(runners={"blue": STANDS_BY, "green": STANDS_BY}, holder=ELSEWHERE)
    plan = replace(BEGUN, phase=phase)
    assert next_step(plan, host.see(plan), 60).action == Action.WAIT
    host.now = READY_S
    step = next_step(plan, host.see(plan), 60)
    assert step.action == Action.GIVE_UP
    assert "another process has the lease" in step.reason


def test_going_back_on_request_from_the_probation() -> None:
    host = Host()
    host.runners, host.holder = {"blue": STANDS_BY, "green": AT_WORK}, "green"
    host.services = {"blue": DOWN, "green": AT_WORK}
    assert deployed(host, replace(BEGUN, phase=Phase.BACK)).phase == Phase.GONE_BACK
    assert host.took_over == ["blue"]
    assert host.services == {"blue": AT_WORK, "green": DOWN}
