"""Where servers listen, and the warning where others can reach them."""

import socket

import pytest

from harness.tools.listening import check_listening, exposed


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_is_reached_by_nobody_else(host):
    assert exposed(host, 5000, "read all") is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "head.example"])
def test_a_warning_says_what_is_open_and_how_to_close_it(host):
    said = exposed(host, 5000, "read all")
    assert said.startswith("whoever reaches port 5000 of this machine can read all.")
    assert "ssh -L 5000:127.0.0.1:5000" in said


@pytest.mark.parametrize("host", ["203.0.113.1", "no such host", "x" * 300, "é\n"])
def test_an_address_that_is_not_of_this_machine(host):
    with pytest.raises(ValueError, match=r"^cannot listen at .*, port 5000: ") as said:
        check_listening(host, 5000)
    assert "\n" not in str(said.value)


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port}: Address already in use"):
            check_listening("127.0.0.1", port)
    check_listening("127.0.0.1", port)
