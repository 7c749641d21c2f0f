"""A cluster with TLS, as far as it is asked before Ray is; a whole one is in hosts/."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.launch.address import check_address
from tests.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch):
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def serve(authority):
    """Starts a server that answers Ray's question, with TLS or without; returns its address."""
    import grpc

    method = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    handler = grpc.method_handlers_generic_handler(
        "ray.rpc.NodeInfoGcsService", {"CheckAlive": method}
    )
    servers = []

    def start(with_tls=True, named="127.0.0.1"):
        server = grpc.server(ThreadPoolExecutor(1), handlers=(handler,))
        servers.append(server)
        if with_tls:
            own = authority.sign("server", named)
            pair = tuple(_read(own[f"RAY_TLS_SERVER_{part}"]) for part in ("KEY", "CERT"))
            secrets = grpc.ssl_server_credentials([pair], authority.path.read_bytes(), True)
            port = server.add_secure_port("127.0.0.1:0", secrets)
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(0)


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def use(monkeypatch, variables, **changes):
    for name, value in (variables | changes).items():
        monkeypatch.setenv(name, value)


def refused(address):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        check_address(address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_with_a_certificate_of_its_authority_it_lets_us_in(serve, authority, monkeypatch):
    use(monkeypatch, authority.sign("client", "127.0.0.1"))
    check_address(serve())


def test_what_is_missing_or_wrong_is_named(serve, authority, monkeypatch, tmp_path):
    address = serve()
    assert f"{address} uses TLS: set RAY_USE_TLS=1 with RAY_TLS_SERVER_CERT" in refused(address)
    own = authority.sign("client", "127.0.0.1")
    monkeypatch.setenv("RAY_USE_TLS", "1")
    assert "RAY_USE_TLS is set, and RAY_TLS_CA_CERT is not" in refused(address)
    use(monkeypatch, own, RAY_TLS_SERVER_KEY="/no/key")
    assert refused(address) == "RAY_TLS_SERVER_KEY: /no/key: No such file or directory"
    use(monkeypatch, own, RAY_TLS_SERVER_CERT=str(tmp_path / "empty"))
    (tmp_path / "empty").touch()
    assert "they are no certificates and key" in refused(address)
    assert "no Ray cluster with TLS answers" in use_and_refuse(monkeypatch, own, serve(False))


def use_and_refuse(monkeypatch, variables, address):
    use(monkeypatch, variables)
    return refused(address)


def test_certificates_of_another_authority(serve, authority, monkeypatch, tmp_path):
    other = Authority(tmp_path / "other").sign("stranger", "127.0.0.1")
    address = serve()
    assert "has a certificate that is not trusted: " in use_and_refuse(monkeypatch, other, address)
    mixed = other | {"RAY_TLS_CA_CERT": str(authority.path)}
    said = use_and_refuse(monkeypatch, mixed, address)
    assert "does not accept our certificate (RAY_TLS_SERVER_CERT)" in said


def test_a_certificate_for_another_address(serve, authority, monkeypatch):
    use(monkeypatch, authority.sign("client", "127.0.0.1"))
    assert "is not valid for '127.0.0.1'" in refused(serve(named="192.0.2.1"))
