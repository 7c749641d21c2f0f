"""What breaks in a cluster, done for real: every trial ends once, with the bits of a run in which
nothing broke, and who reads the output learns what happened."""

import re
import time

import pytest

from .cluster import RayCluster, Run, is_plain, runs_on
from .outcome import PACE, SUITE, assert_idle, assert_whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def begun(cluster, *options, **more):
    """A run in the middle of a paced trial, which is returned with its host."""
    run = Run(cluster, SUITE, *options, HARNESS_CHECKPOINT_SECONDS="1", **more)
    return run, *run.trial_under_way()


def assert_survived(run, undisturbed, idle_within=60):
    """The run has ended as if nothing had been."""
    assert run.code() == 0, run.cluster.said()
    print(run.said)
    assert_whole(run, undisturbed)
    assert is_plain(run.said), run.said
    assert_idle(run, idle_within)


def elsewhere(run, trial, host, since):
    """Wait until the trial is at work on another host, and print how long that took."""
    run.until(lambda: runs_on(run.store, trial) not in (None, host.name), "another host")
    print(f"{trial} runs elsewhere after {time.monotonic() - since:.1f} s")


def assert_says_lost(run, host):
    """The run says so of a host, as Ray's head or a broken connection told it first."""
    told = r"(the node was lost|cannot be reached.*broke) \(.*" + re.escape(host.address)
    assert re.search(f"is tried again (now|in .* s): {told}", run.said), run.said


def raylet_of(host):
    (found,) = [one for one in host.processes() if one.name() == "raylet"]
    return found


def test_a_raylet_is_killed(cluster, undisturbed):
    run, trial, host = begun(cluster)
    raylet_of(host).kill()  # its host joins again, and may run the trial again
    assert_survived(run, undisturbed)
    assert_says_lost(run, host)
    assert run.store.trial(trial).result()["record"]["restarts"] == 1


@pytest.mark.parametrize("silently", [False, True])
def test_a_host_loses_its_power(cluster_with_a_spare, undisturbed, silently):
    run, trial, host = begun(cluster_with_a_spare, "--concurrency", "2")
    host.power_off(silently)
    elsewhere(run, trial, host, time.monotonic())
    assert_survived(run, undisturbed)
    assert_says_lost(run, host)
    assert run.store.trial(trial).result()["record"]["restarts"] == 1


def test_a_cable_is_cut_for_good(cluster_with_a_spare, undisturbed):
    """The store is no farther away than before: what is cut off goes on writing to it, until it
    finds that the trial is another's."""
    run, trial, host = begun(cluster_with_a_spare, "--concurrency", "2")
    host.cut()
    elsewhere(run, trial, host, time.monotonic())
    assert_survived(run, undisturbed, idle_within=180)  # Ray's own on the lost host, after a minute
    assert_says_lost(run, host)
    assert run.store.trial(trial).result()["epoch"] == 2


def test_a_cable_is_cut_where_no_lock_holds_between_hosts(hosts_without_locks, undisturbed):
    cluster = RayCluster(hosts_without_locks, 3, **{PACE: "1"})
    run, trial, host = begun(cluster, "--concurrency", "2")
    host.cut()
    elsewhere(run, trial, host, time.monotonic())
    assert_survived(run, undisturbed, idle_within=180)
    assert run.store.trial(trial).result()["epoch"] == 2


def test_a_cable_is_cut_for_half_a_minute(cluster_with_a_spare, undisturbed):
    run, trial, host = begun(cluster_with_a_spare, "--concurrency", "2")
    host.cut()
    run.watch(30)
    host.heal()
    assert_survived(run, undisturbed)
    started = "Ray runtime started"
    cluster = run.cluster
    cluster.until(lambda: cluster.log(host.name).read_text().count(started) == 2, "its return")
    assert run.store.trial(trial).result()["epoch"] == 2


def test_a_host_is_paused_for_longer_than_its_lease(cluster_with_a_spare, undisturbed):
    run, trial, host = begun(cluster_with_a_spare, "--concurrency", "2")
    host.pause()
    run.watch(40)
    host.resume()
    assert_survived(run, undisturbed)
    assert run.store.trial(trial).result()["epoch"] == 2


def test_the_head_is_killed_and_another_run_on_a_new_one_goes_on(cluster, undisturbed):
    run, trial, _ = begun(cluster)
    (head,) = [one for one in cluster.head.processes() if one.name() == "gcs_server"]
    head.kill()
    assert run.code(120) == 3
    assert "the head of the Ray cluster no longer answers" in run.said
    assert "Go on with: " in run.said
    assert is_plain(run.said), run.said
    assert not run.store.trial(trial).ended()
    cluster.restart_head()
    again = Run(cluster, SUITE, name="again")
    again.results = run.results
    assert_survived(again, undisturbed)


def test_the_driver_is_killed_and_started_again(cluster, undisturbed):
    run, trial, _ = begun(cluster)
    run.kill()
    assert_idle(run)
    again = Run(cluster, SUITE, name="again")
    again.results = run.results
    assert_survived(again, undisturbed)
    assert again.store.trial(trial).result()["record"]["restarts"] == 1
