"""One release takes over from another under a real systemd, while groups arrive and people look at the service.

No release starts anything twice, no request fails, and a release that fails gives way to the one before by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blue_green_site import Site, Stream, Watch, stopped_at_work
from daemons import wait
from systemd_host import DATA_ROOT, NEEDS_SYSTEMD, PREFIX, SCRIPT, systemd_host

pytestmark = NEEDS_SYSTEMD

OTHER = Path("/opt/contimg-other")
QUICK = "import sys\nif sys.argv[1:3] == ['deploy', 'check']:\n    sys.exit(0)\n"
"""A release that is taken for checked: its check of a group has a test of its own."""
FAILS_ITS_CHECK = (
    "import sys\nif sys.argv[1:3] == ['deploy', 'check']:\n    sys.exit('contimg: settings: are not mine')\n"
)
CRASHES_AT_START = f"{QUICK}if sys.argv[1] == 'run':\n    sys.exit(1)\n"
CRASHES_AT_WORK = f"""{QUICK}
import json, os, pathlib, threading, time
def crash():
    state = pathlib.Path('/etc/contimg/deployment.json')
    while json.loads(state.read_text())['phase'] != 'probation':
        time.sleep(0.2)
    time.sleep(60)
    os._exit(9)
if sys.argv[1] == 'run':
    threading.Thread(target=crash, daemon=True).start()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Blue at work, on a disk of its own; the other environment is beside it."""
    with systemd_host(tmp_path_factory.mktemp("host") / "systemd") as host:
        host.run("mkdir", "-p", str(DATA_ROOT.parent))
        host.run("mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", str(DATA_ROOT.parent))
        host.environment(OTHER)
        host.environment(PREFIX, QUICK + SCRIPT)
        host.install()
        host.setting("reserve_gb", 0.05)  # a small disk
        host.run("systemctl", "start", "contimg", "contimg-serve")
        here = Site(host)
        wait(lambda: here.at_work("blue"), 60, "blue is at work")
        yield here


@pytest.fixture
def watch(site: Site) -> Iterator[Watch]:
    """Requests all along, none of which may fail, and the longest time without a runner."""
    with Watch(site).on() as watch:
        try:
            yield watch
        finally:
            if site.deploying:
                site.deploying.kill()
    assert watch.failed == []
    assert watch.asked > 20
    assert watch.longest_without_s < 5


@pytest.fixture
def stream(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stream]:
    """Groups that arrive meanwhile: three, or as many as a test says."""
    with Stream(site, tmp_path, getattr(request, "param", 3)).on() as stream:
        yield stream


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (FAILS_ITS_CHECK, "contimg-check@"),
        (CRASHES_AT_START, "its runner does not stay up"),
        (CRASHES_AT_WORK, "its runner did not stay up in its probation"),
    ],
    ids=["at its check", "at its start", "a minute after the switch"],
)
def test_a_release_that_fails_gives_way_to_the_one_before(
    site: Site, watch: Watch, stream: Stream, script: str, why: str
) -> None:
    used = site.used()
    site.host.environment(OTHER, script + SCRIPT)
    code, said = site.deployed(str(OTHER), "--probation", "90")
    assert code == 1, said
    assert why in said
    assert f"{used} is in use as before" in said
    assert site.used() == used
    assert site.at_work(used), said
    stream.kept()


def test_the_checks_pass_with_the_rights_of_the_service(site: Site) -> None:
    used = site.used()
    site.host.environment(PREFIX)
    begun = site.host.run("systemctl", "start", "--no-block", f"contimg-check@{used}")
    assert begun.returncode == 0
    unit = f"contimg-check@{used}"
    wait(lambda: site.host.show("ActiveState", unit) not in ("activating", "active"), 600, "the checks end")
    said = site.host.run("journalctl", "--no-pager", "-u", unit, check=False).stdout
    assert site.host.show("Result", unit) == "success", said
    for line in ("settings: can be used", "ledger: a copy was migrated", "a small group: from raw files to image"):
        assert line in said
    assert not list(site.root.state.glob("check-*"))


def test_a_disk_that_fills_up_during_the_switch_loses_nothing(site: Site, watch: Watch, stream: Stream) -> None:
    site.host.environment(OTHER, QUICK + SCRIPT)
    ballast = DATA_ROOT.parent / "ballast"
    with stopped_at_work():
        stream.all_here()
        deploying = site.deploy(str(OTHER), "--probation", "3")
        deploying.until("take over")
        filled = site.host.run("dd", "if=/dev/zero", f"of={ballast}", "bs=1M", check=False)
        assert "No space left" in filled.stderr
    _, said = deploying.end()
    site.host.run("rm", str(ballast))
    wait(lambda: site.at_work(site.used()), 60, f"a release is at work again: {said}")
    stream.kept()


@pytest.mark.parametrize("stream", [6], indirect=True, ids=["six groups"])
def test_the_switch_loses_no_group_and_no_request_and_can_be_undone(site: Site, watch: Watch, stream: Stream) -> None:
    before = site.used()
    site.host.environment(OTHER, QUICK + SCRIPT)
    with stopped_at_work():
        deploying = site.deploy(str(OTHER), "--probation", "10")
        deploying.until("probation")  # the call was handed over, and goes on
    code, said = deploying.end()
    assert code == 0, said
    assert site.used() != before
    assert site.at_work(site.used()), said
    code, said = site.deployed("--rollback", "--probation", "3")
    assert code == 0, said
    assert site.used() == before
    assert site.at_work(before), said
    stream.kept()
    assert [record for record in stream.records() if record["outcome"] != "ok"] == [], "a call was not handed over"


def test_without_a_way_back_the_new_release_stays(site: Site, watch: Watch) -> None:
    """The command tried to start the old runner for ever."""
    used = site.used()
    old = Path(site.host.run("readlink", f"/etc/contimg/releases/{used}").stdout.strip())
    new = OTHER if old == PREFIX else PREFIX
    site.host.environment(new, QUICK + SCRIPT)
    deploying = site.deploy(str(new), "--probation", "90")
    deploying.until("probation")
    deploying.kill()
    site.host.environment(old, CRASHES_AT_START + SCRIPT)
    site.host.run("systemctl", "kill", "--signal=KILL", f"contimg@{used}")
    code, said = site.deployed("--rollback")
    assert code == 1, said
    assert f"there is no way back, for the runner of {used} does not start" in said
    assert site.used() != used
    assert site.at_work(site.used()), said
    told = site.host.contimg("deploy", "status").stdout.splitlines()
    assert "(done, since " in told[0]
    assert "there is no way back" in told[0]
    assert any(line.endswith("service active, has the lease, starts with the host") for line in told[1:]), told
    site.host.environment(old, QUICK + SCRIPT)


def test_the_deploying_command_can_be_killed_at_each_step(site: Site, watch: Watch) -> None:
    before = site.used()
    site.host.environment(OTHER, QUICK + SCRIPT)
    kills = 0
    while True:
        deploying = site.deploy(str(OTHER), "--probation", "2")
        said = deploying.begun(2)  # as it stands, and one step
        if len(said) < 2:
            break
        time.sleep(0.3 * (kills % 3))  # between two steps, and inside one
        deploying.kill()
        kills += 1
        if "done" in said[1]:
            break
        assert kills < 30, said
    assert kills >= 6
    assert site.used() != before
    wait(lambda: site.at_work(site.used()), 30, "the new release is at work")
