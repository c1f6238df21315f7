"""A host on which one release takes over from another: its runners hold a lease, and fail when they are told to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from contimg.deploy.blue_green import Action, Deployment, HostState, Phase, UnitState

DOWN, AT_WORK = UnitState("inactive"), UnitState("active", "at work")
STANDS_BY = UnitState("activating", "stands by: a runner is at work")
HANDED_OVER = replace(STANDS_BY, state="active")
STOPS = UnitState("deactivating", HANDED_OVER.status)
BEGUN = Deployment("green", "/opt/new", True, True, Phase.CHECK, 0.0)


@dataclass
class Host:
    """A host whose runners take the lease when it is free.

    Attributes
    ----------
    fails
        Phase in which green fails.
    how
        `crash`: its runner ends; `crash at work`: it does once it has the lease; `hang`: it never becomes ready;
        `silent`: its service does not answer; `deaf`: it is silent, and its runner does not hand over.
    gave_way
        Runner that handed over last, and leaves the lease to the other.
    broken
        Runners that do not start any more, and end without the lease.
    in_use
        Colour that starts with the host.
    """

    fails: Phase | None = None
    how: str = "crash"
    now: float = 0.0
    runners: dict[str, UnitState] = field(default_factory=lambda: {"blue": AT_WORK, "green": DOWN})
    services: dict[str, UnitState] = field(default_factory=lambda: {"blue": AT_WORK, "green": DOWN})
    holder: str = "blue"
    took_over: list[str] = field(default_factory=list)
    gave_way: str = ""
    broken: tuple[str, ...] = ()
    in_use: str = "blue"

    def see(self, deployment: Deployment) -> HostState:
        self.now += 1
        failing = deployment.phase == self.fails
        crashes = self.how == "crash" or (self.how == "crash at work" and self.holder == "green")
        if failing and crashes and self.runners["green"] != DOWN:
            self.runners["green"] = replace(STANDS_BY, restarts=1)
            self.holder = "" if self.holder == "green" else self.holder
        for colour in sorted(self.runners, key=lambda colour: colour == self.gave_way):
            unit = self.runners[colour]
            if unit == STOPS:
                self.runners[colour] = DOWN
            elif colour in self.broken and colour != self.holder and unit != DOWN:
                self.runners[colour] = UnitState("activating", "", unit.restarts + 1)
                continue
            if not self.holder and unit.stands_by and not unit.restarts:
                self.holder = colour
                self.took_over.append(colour)
                hangs = failing and self.how == "hang"
                self.runners[colour] = UnitState("activating", "starts") if hangs and colour == "green" else AT_WORK
        answers = not (failing and self.how in ("silent", "deaf"))
        assert self.holder, "nobody has the lease"
        assert "active" in {unit.state for unit in self.services.values()}, "the port was let go"
        units = dict(self.runners), dict(self.services)
        return HostState(self.now, *units, self.holder, answers=answers, ready=answers)

    def do(self, action: Action, colour: str) -> None:
        if action == Action.STAND_BY:
            assert self.runners[colour].down
            self.runners[colour] = STANDS_BY
        elif action == Action.HAND_OVER:
            assert self.holder == colour
            if self.how != "deaf" or colour != "green":
                self.runners[colour], self.holder, self.gave_way = HANDED_OVER, "", colour
        elif action == Action.STOP:
            assert self.holder != colour or self.how == "deaf"
            assert self.runners[colour] != STOPS, "a second signal would end the calls that it handed over"
            self.runners[colour] = STOPS
            self.holder = "" if self.holder == colour else self.holder
        elif action == Action.SERVE:
            self.services[colour] = AT_WORK
        elif action == Action.STOP_SERVICE:
            self.services[colour] = DOWN
        elif action == Action.USE:
            self.in_use = colour
        elif action == Action.WAIT:
            self.now += 5
