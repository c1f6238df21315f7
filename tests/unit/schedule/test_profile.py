"""Where the jobs of a Snakemake profile run."""

from __future__ import annotations

from pathlib import Path

import pytest

from contimg.core.errors import ConfigError
from contimg.core.release import CHECKOUT
from contimg.schedule.profile import on_slurm


def test_the_projects_own_profiles() -> None:
    assert not on_slurm(None)
    assert not on_slurm(CHECKOUT / "profiles" / "local")
    assert on_slurm(CHECKOUT / "profiles" / "slurm")


def test_a_profile_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^runner\.profile: .* holds no profile\.yaml"):
        on_slurm(tmp_path)
    (tmp_path / "profile.yaml").write_text("executor: [")
    with pytest.raises(ConfigError, match="cannot be read"):
        on_slurm(tmp_path)
