"""WSClean's process: whose fault its failures are, when it is waited for and when it is killed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import psutil
import pytest

from contimg.clean import wsclean
from contimg.clean.options import CleanOptions
from contimg.core.errors import Blame, ConfigError, ContimgError


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a `wsclean` on the PATH that does as told."""

    def put(script: str) -> None:
        program = tmp_path / "bin" / "wsclean"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return put


@pytest.mark.parametrize(
    ("script", "blame", "said"),
    [
        ("echo '+ >>> Unknown parameter: use-wgridder'; exit 255", Blame.WORKFLOW, "option use-wgridder is unknown"),
        (
            "echo 'wsclean: error while loading shared libraries: libcasa_ms.so.7: cannot open shared object file:"
            " No such file or directory'; exit 127",
            Blame.WORKFLOW,
            "library libcasa_ms.so.7 is missing",
        ),
        ("kill -SEGV $$", Blame.WORKFLOW, "crashed (SIGSEGV)"),
        ("exit 139", Blame.WORKFLOW, "crashed (SIGSEGV)"),
        ("exit 127", Blame.WORKFLOW, "exit code 127"),
        ("kill -KILL $$", Blame.MACHINE, "killed by SIGKILL"),
        ("echo 'No space left on device'; exit 1", Blame.MACHINE, "the disk is full"),
        ("echo 'write: Stale file handle'; exit 1", Blame.MACHINE, "the file system fails"),
        ("echo '+ >>> Something about these visibilities'; exit 1", Blame.GROUP, "Something about these"),
    ],
)
def test_a_failure_says_whose_fault_it_is_in_one_line(
    tmp_path: Path, stand_in, script: str, blame, said: str
) -> None:
    stand_in(script)
    with pytest.raises(ContimgError) as failure:
        wsclean._run(tmp_path / "a.ms", ["wsclean"])
    assert failure.value.blame == blame
    assert said in str(failure.value)
    assert "\n" not in str(failure.value)


def test_it_is_waited_for_after_its_output_has_closed(tmp_path: Path, stand_in) -> None:
    """Reordered temporary files of gigabytes take it longer than seconds to remove."""
    stand_in(f"echo done; exec >&- 2>&-; sleep 6; touch {tmp_path}/whole")
    wsclean._run(tmp_path / "a.ms", ["wsclean"])
    assert (tmp_path / "whole").exists()


@pytest.mark.parametrize("share_gb", [64.0, 0.01])
def test_it_has_the_jobs_threads_and_what_the_job_has_left_of_its_memory(
    tmp_path: Path, stand_in, share_gb: float
) -> None:
    """The job itself holds a part of its share; however much that is, half of the share is WSClean's."""
    stand_in(f'echo "$@" > {tmp_path}/said')
    options = CleanOptions(128, 5e-5, 0.5, 100, mask_sigma=5, threshold_sigma=1, threads=3, memory_gb=share_gb)
    held_gb = psutil.Process().memory_info().rss / 1e9
    wsclean.clean(tmp_path / "a.ms", tmp_path / "a", options)
    said = (tmp_path / "said").read_text().split()
    assert said[said.index("-j") + 1] == "3"
    given_gb = float(said[said.index("-abs-mem") + 1])
    assert given_gb == pytest.approx(max(share_gb - held_gb, share_gb / 2), abs=0.1 * held_gb)
    assert given_gb >= share_gb / 2


def test_a_wsclean_that_cannot_run_is_refused_at_the_start_with_the_missing_library(stand_in) -> None:
    said = "wsclean: error while loading shared libraries: libcasa_ms.so.7: cannot open shared object file"
    stand_in(f"echo '{said}' >&2; exit 127")
    with pytest.raises(ConfigError, match=r"imaging\.imager: .*the library libcasa_ms\.so\.7 is missing") as refusal:
        wsclean.refuse_if_broken()
    assert "\n" not in str(refusal.value)
    stand_in("echo WSClean version 3.4")
    wsclean.refuse_if_broken()


def test_a_wsclean_that_does_not_answer_is_refused_at_the_start(stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a mount whose server is gone: the runner would never have begun."""
    stand_in("exec sleep 600")
    monkeypatch.setattr(wsclean, "_ANSWER_S", 0.2)
    with pytest.raises(ConfigError, match=r"imaging\.imager: wsclean: does not answer within 0\.2 s"):
        wsclean.refuse_if_broken()
