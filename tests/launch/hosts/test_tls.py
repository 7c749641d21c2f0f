"""A cluster whose nodes speak TLS, with a host that has no certificate."""

import pytest

from tests.certificates import Authority

from .cluster import RayCluster, Run
from .outcome import PACE, SUITE, assert_whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_suite_runs_over_tls_and_who_has_no_certificate_is_refused(hosts, undisturbed):
    authority = Authority(hosts.folder / "certificates")
    own = authority.sign("nodes", *(f"10.213.7.{10 + number}" for number in range(4)))
    cluster = RayCluster(hosts, 2, **own, **{PACE: "0"})

    bare = dict.fromkeys(own, "")
    stranger = cluster.add_worker(**bare)
    other = Authority(hosts.folder / "others").sign("stranger", "10.213.7.14")
    forger = cluster.add_worker(**other)

    without = Run(cluster, SUITE, name="without", **bare)
    assert without.code() == 2
    assert "uses TLS: set RAY_USE_TLS=1 with RAY_TLS_SERVER_CERT" in without.said
    forged = Run(cluster, SUITE, name="forged", **other)
    assert forged.code() == 2
    assert "has a certificate that is not trusted" in forged.said
    assert not forged.store.has_records()

    run = Run(cluster, SUITE)
    assert run.code() == 0, cluster.said()
    assert "asking 2 nodes for versions" in run.said  # and no more than those two
    assert_whole(run, undisturbed)
    for host in (stranger, forger):
        assert not cluster.has_joined(host), cluster.log(host.name).read_text()
