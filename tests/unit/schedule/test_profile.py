"""Where the jobs of a Snakemake profile run."""

from __future__ import annotations

from pathlib import Path

import pytest

from contimg.core.errors import ConfigError
from contimg.core.release import CHECKOUT
from contimg.schedule.profile import on_slurm, read_profile


def test_the_projects_own_profiles() -> None:
    assert not on_slurm(None)
    assert not on_slurm(CHECKOUT / "profiles" / "local")
    assert on_slurm(CHECKOUT / "profiles" / "slurm")


@pytest.mark.parametrize("name", ["profile.yaml", "config.yaml"])
def test_a_profile_has_one_of_two_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("executor: slurm\ndefault-resources:\n  slurm_partition: sky\n")
    assert on_slurm(tmp_path)
    assert read_profile(tmp_path)["default-resources"] == {"slurm_partition": "sky"}


@pytest.mark.parametrize("content", [b"executor: [", b"\xff", b"at: 2026-13-01"])
def test_a_profile_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^runner\.profile: .* holds no profile\.yaml"):
        on_slurm(tmp_path)
    (tmp_path / "profile.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        on_slurm(tmp_path)
