"""A short soak: three groups, and as many kinds of faults as come while there is work."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .soak import Form, soaked

pytestmark = [pytest.mark.slow, pytest.mark.mounts]


def test_a_quarter_of_an_hour_with_faults_at_random_loses_nothing(tmp_path: Path, long: bool) -> None:
    if not long:
        pytest.skip("in the long form: how long it takes is chance")
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    figures = soaked(tmp_path, Form(10, 20, hours=0.24), seed)
    assert figures["losses"] == []
    assert figures["not recovered"] == []
    assert figures["zero-touch (%)"] == 100
    assert len(figures["recovery"]) >= 5
