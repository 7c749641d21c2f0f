"""What the tests' own servers say, and where."""

import socket
import struct
import threading

import pytest

from tests.servers import QuietHandler, QuietServer, answering

REQUEST = b"GET / HTTP/1.0\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # a close with it sends a reset


@pytest.mark.parametrize("fault", [None, KeyError("a fault of the server's own")])
def test_only_a_client_that_hung_up_is_passed_over(fault, capsys):
    gone, answered = threading.Event(), threading.Event()

    class Handler(QuietHandler):
        def do_GET(self):
            gone.wait(10)
            if fault is not None:
                raise fault
            for _ in range(100):
                self.wfile.write(bytes(1 << 20))

    class Server(QuietServer):
        def shutdown_request(self, request):
            super().shutdown_request(request)
            answered.set()

    with answering(Server(("127.0.0.1", 0), Handler)) as server:
        client = socket.create_connection(("127.0.0.1", server.server_port))
        client.sendall(REQUEST)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        gone.set()
        assert answered.wait(10)
    assert ("KeyError" in (said := capsys.readouterr().err)) == (fault is not None)
    assert bool(said) == (fault is not None)
