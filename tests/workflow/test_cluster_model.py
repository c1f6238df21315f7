"""The model of a cluster loses no group and promises no more than its stage times allow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.cluster_inputs import DSA110, TENFOLD, TWO_NODE_RUN_S, Overhead, Telescope
from benchmarks.cluster_model import two_node_run
from benchmarks.cluster_simulation import Case, simulate
from benchmarks.figures import GROUP_S

FASTEST_S = sum(DSA110.work[stage].seconds + Overhead().start_s[0] for stage in ("convert", "image"))
"""Nodes' time (s) that a group takes at least."""


@pytest.mark.parametrize("telescope", [DSA110, TENFOLD])
@pytest.mark.parametrize("nodes", [1, 4])
def test_every_group_that_arrives_is_imaged(nodes: int, telescope: Telescope) -> None:
    outcome = simulate(Case(nodes, telescope, live=120))  # one node does not keep up with the tenfold stream
    assert len(outcome.latency_s) == outcome.images == 120
    assert outcome.mosaics >= 120 // telescope.window
    solved = 3
    assert outcome.jobs == 2 * 120 + solved + outcome.again + outcome.mosaics


def test_history_and_the_live_stream_both_are_imaged() -> None:
    outcome = simulate(Case(4, live=1, history=150))
    assert outcome.images == 150 + len(outcome.latency_s)
    assert len(outcome.latency_s) >= outcome.ended_s // GROUP_S
    assert outcome.busy <= 1


def test_nodes_carry_no_more_than_their_stage_times_allow() -> None:
    for nodes in (1, 4):
        assert simulate(Case(nodes, history=100)).ended_s >= 100 * FASTEST_S / nodes
    assert simulate(Case(1, TENFOLD, live=100)).busy > 1
    assert min(simulate(Case(40, live=50)).latency_s) >= FASTEST_S


def test_the_disk_delivers_no_more_than_it_can() -> None:
    traffic_gb = 200 * sum(DSA110.work[stage].traffic_gb for stage in ("convert", "image"))
    free, short = (simulate(Case(10, history=200, disk_gb_s=disk)).ended_s for disk in (1e6, 0.1))
    assert short >= traffic_gb / 0.1 > free
    with pytest.raises(ValueError, match="cannot take what arrives"):
        Case(1, TENFOLD, live=1, disk_gb_s=0.05)


@pytest.mark.parametrize("telescope", [DSA110, replace(DSA110, transit_every=10**6)])
def test_more_nodes_are_never_slower(telescope: Telescope) -> None:
    months = [simulate(Case(nodes, telescope, history=300)).ended_s for nodes in (1, 2, 4, 10)]
    assert months == sorted(months, reverse=True)
    live = [simulate(Case(nodes, telescope, live=300)).p95_s for nodes in (1, 4, 10)]
    assert live == sorted(live, reverse=True)


def test_the_two_node_run_comes_out_as_measured() -> None:
    assert two_node_run(20)[0] == pytest.approx(TWO_NODE_RUN_S, rel=0.15)


def test_the_same_seed_gives_the_same() -> None:
    case = Case(4, live=1, history=50, disk_gb_s=0.3)
    assert simulate(case) == simulate(case)
    assert simulate(replace(case, seed=1)) != simulate(case)
