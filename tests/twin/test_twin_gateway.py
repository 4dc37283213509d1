"""The door of the twin: who is let in, what is written down, and what is not."""

from __future__ import annotations

import socket

import pytest
import requests
from twin_helpers import ask, code_of

from insitu.twin.estate import Estate

LOGIN = "https://login.microsoftonline.com"


def test_a_host_that_the_twin_does_not_play_is_refused_and_written_down(estate: Estate) -> None:
    with pytest.raises(requests.exceptions.ProxyError):
        ask(estate, "GET", "https://example.com/planted-path")

    (line,) = estate.journal.lines()
    assert (line.side, line.host, line.kind, line.status) == ("unknown", "example.com:443", "refused", 403)


def test_nothing_is_reached_without_tls(estate: Estate) -> None:
    answer = ask(estate, "GET", f"http://{estate.names.hub_arm}/metadata/endpoints")

    assert answer.status_code == 403
    assert [line.side for line in estate.journal.lines()] == ["unknown"]


def test_a_client_that_does_not_trust_the_authority_of_the_twin_says_nothing(estate: Estate) -> None:
    with requests.Session() as session:
        session.trust_env = False
        with pytest.raises(requests.exceptions.SSLError):
            session.get(LOGIN, proxies={"https": estate.proxy}, timeout=10)

    assert list(estate.journal.lines()) == []


def test_what_goes_to_a_public_host_is_kept_whole_but_for_secrets(estate: Estate) -> None:
    body = {"client_secret": "planted-secret", "client_id": "planted-name"}
    ask(
        estate, "POST", f"{LOGIN}/{estate.names.tenant}/oauth2/v2.0/token?sig=planted-signature&x=planted-query",
        data=body, headers={"Authorization": "Bearer planted-token", "X-Other": "planted-header"},
    )  # fmt: skip

    (line,) = estate.journal.lines("public")
    kept = (estate.journal.bodies / line.body).read_text()
    for planted in ("planted-name", "planted-query", "planted-header"):
        assert planted in kept
    for planted in ("planted-secret", "planted-signature", "planted-token"):
        assert planted not in kept
        assert planted not in (estate.folder / "egress.jsonl").read_text()
    assert (line.method, line.host, line.kind) == ("POST", "login.microsoftonline.com", "sign-in")
    assert line.bytes_out == len(kept) - len("-") + len("planted-secret")


def test_what_goes_to_the_hub_is_counted_and_not_kept(estate: Estate) -> None:
    ask(estate, "PUT", f"https://{estate.names.hub_blob}/flights/planted", data=b"x" * 1000)

    assert list(estate.journal.lines("public", "unknown")) == []
    (line,) = estate.journal.lines("hub")
    assert (line.bytes_out > 1000, line.body) == (True, "")
    assert list(estate.journal.bodies.iterdir()) == []


def test_one_connection_serves_many_requests_and_large_ones(estate: Estate) -> None:
    url, data = f"https://{estate.names.hub_arm}/metadata/endpoints", b"x" * 5_000_000
    with requests.Session() as session:
        for _ in range(3):
            assert session.get(f"{url}?api-version=2015-01-01", timeout=30).ok
            refused = session.put(f"https://{estate.names.hub_arm}/subscriptions", data=data, timeout=30)
            assert code_of(refused) == "AuthenticationFailed"
    assert max(line.bytes_out for line in estate.journal.lines("hub")) > len(data)


def test_a_client_that_waits_for_leave_to_send_gets_it(estate: Estate) -> None:
    context = requests.packages.urllib3.util.ssl_.create_urllib3_context()  # type: ignore[attr-defined]
    context.load_verify_locations(estate.authority.bundle)
    host = estate.names.hub_arm
    with socket.create_connection(("127.0.0.1", estate.port), timeout=10) as sock:
        sock.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert b" 200 " in sock.recv(4096)
        with context.wrap_socket(sock, server_hostname=host) as secured:
            head = f"PUT /subscriptions HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
            secured.sendall(head.encode())
            assert secured.recv(4096).startswith(b"HTTP/1.1 100")
            secured.sendall(b"abc")
            assert secured.recv(4096).startswith(b"HTTP/1.1 401")


def test_a_stranger_on_this_machine_cannot_steer_the_twin(estate: Estate) -> None:
    answer = requests.post(f"{estate.proxy}/faults", json={"kind": "drop"}, timeout=10)

    assert answer.status_code == 403
    assert estate.faults.to_json() == {"faults": [], "conditions": []}
