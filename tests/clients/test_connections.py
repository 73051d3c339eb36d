"""Connections: encryption, HTTP/2, and pages of other origins."""

import asyncio
import contextlib
import shutil
import socket
import time

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import requests
import trustme

from conftest import PATIENCE_S, Pie, model_file

QUESTION = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}


def certificate(authority, folder):
    """Writes a certificate of the authority over the one that is there."""
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(str(folder / "key.new"))
    for at, part in enumerate(made.cert_chain_pems):
        part.write_to_path(str(folder / "cert.new"), append=at > 0)
    shutil.move(folder / "key.new", folder / "server.key")
    shutil.move(folder / "cert.new", folder / "server.pem")


def test_requests_are_encrypted_and_a_new_certificate_is_taken(tmp_path):
    home, authorities = Pie(tmp_path / "home"), [trustme.CA(), trustme.CA()]
    trusted = []
    for at, authority in enumerate(authorities):
        authority.cert_pem.write_to_path(str(tmp_path / f"ca{at}.pem"))
        trusted.append(str(tmp_path / f"ca{at}.pem"))
    certificate(authorities[0], tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(f"[tls]\ncertificate = '{tmp_path}/server.pem'\nkey = '{tmp_path}/server.key'\n")
    with home.serving("--config", str(config), model=model_file(), scheme="https") as url:
        def status(authority):
            return requests.get(f"{url}/health", verify=trusted[authority], timeout=PATIENCE_S).status_code

        assert status(0) == 200
        with httpx.Client(http2=True, verify=trusted[0], timeout=PATIENCE_S) as client:
            answer = client.post(f"{url}/v1/chat/completions", json=QUESTION)
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
        (tmp_path / "server.pem").write_text("no certificate")
        time.sleep(2)
        assert status(0) == 200, "what cannot be used changes nothing"
        certificate(authorities[1], tmp_path)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                assert status(1) == 200
                break
            except requests.exceptions.SSLError:
                assert time.monotonic() < deadline, "the new certificate is not taken"
                time.sleep(0.1)
        with pytest.raises(requests.exceptions.SSLError):
            status(0)
        # A client that speaks no TLS harms nobody.
        with socket.create_connection(url.removeprefix("https://").split(":"), timeout=PATIENCE_S) as plain:
            plain.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert not plain.recv(4096).startswith(b"HTTP/1.1 200")
        assert status(1) == 200


def test_http2_without_encryption_streams_and_takes_many_requests_at_once(url):
    with httpx.Client(http1=False, http2=True, timeout=PATIENCE_S) as client:
        answer = client.post(f"{url}/v1/chat/completions", json=QUESTION)
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
        with client.stream("POST", f"{url}/v1/chat/completions", json=QUESTION | {"stream": True}) as stream:
            lines = [line for line in stream.iter_lines() if line]
        assert lines[-1] == "data: [DONE]" and len(lines) > 2

    async def at_once():
        async with httpx.AsyncClient(http1=False, http2=True, timeout=PATIENCE_S) as client:
            asked = (client.post(f"{url}/tokenize", json={"prompt": f"{at}"}) for at in range(64))
            return await asyncio.gather(*asked)

    answers = asyncio.run(at_once())
    assert all(answer.status_code == 200 for answer in answers)


def test_an_http2_client_that_takes_nothing_is_left(pie, tmp_path):
    """It has a window for a part of the answer and opens no other: the connection ends, and its inferlet with it."""
    config = tmp_path / "config.toml"
    config.write_text("[http]\nwrite_ms = 1000\n")
    with pie.serving("--config", str(config), model=model_file()) as url:
        port = int(url.rsplit(":", 1)[1])
        body = b'{"prompt": "one two", "max_tokens": 4000, "ignore_eos": true, "stream": true}'
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
            http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
            http2.initiate_connection()
            http2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
            head = [(":method", "POST"), (":path", "/v1/completions"), (":scheme", "http")]
            head += [(":authority", "localhost"), ("content-type", "application/json")]
            http2.send_headers(1, head)
            http2.send_data(1, body, end_stream=True)
            client.sendall(http2.data_to_send())
            received = 0
            while data := client.recv(65536):
                for event in http2.receive_data(data):
                    if isinstance(event, h2.events.DataReceived):
                        received += len(event.data)
                # Settings and pings are answered; the window stays as it is.
                client.sendall(http2.data_to_send())
            assert 0 < received <= 1000
        assert requests.get(f"{url}/health", timeout=PATIENCE_S).status_code == 200


@pytest.mark.parametrize("first", [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"PR", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64])
def test_what_only_begins_like_http2_harms_nobody(url, first):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
        client.sendall(first)
        client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(4096):
                pass
    assert requests.get(f"{url}/health", timeout=PATIENCE_S).status_code == 200


def test_pages_of_configured_origins_may_ask(pie, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("[http]\ncors_origins = ['https://app.example.com']\n")
    with pie.serving("--config", str(config), model=model_file()) as url:
        asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}

        def allowed(origin):
            answer = requests.options(
                f"{url}/v1/chat/completions", headers=asks | {"origin": origin}, timeout=PATIENCE_S
            )
            return answer.headers.get("access-control-allow-origin"), answer.headers

        origin, headers = allowed("https://app.example.com")
        assert origin == "https://app.example.com"
        assert "authorization" in headers["access-control-allow-headers"]
        assert allowed("https://evil.example.com")[0] is None
        answer = requests.post(
            f"{url}/v1/chat/completions", json=QUESTION, headers={"origin": "https://app.example.com"}, timeout=PATIENCE_S
        )
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"


def test_without_keys_pages_of_others_and_names_that_point_here_are_refused(url):
    body = '{"prompt": "a", "max_tokens": 1}'
    for headers in [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}]:
        for path in ["/v1/completions", "/debug/trace?seconds=1"]:
            answer = requests.post(f"{url}{path}", data=body, headers=headers, timeout=PATIENCE_S)
            assert answer.status_code == 403, (headers, path)
    own = {"origin": url}
    assert requests.post(f"{url}/v1/completions", data=body, headers=own, timeout=PATIENCE_S).status_code == 200


def test_an_http2_client_that_reads_slowly_gets_all_of_a_large_answer(pie, tmp_path):
    """It takes longer than a connection may be idle, and than one part of an answer may wait."""
    config = tmp_path / "config.toml"
    config.write_text("[http]\nhead_ms = 1000\nwrite_ms = 3000\n")
    with pie.serving("--config", str(config), model=model_file()) as url:
        path = f"{url}/docs/swagger-ui-bundle.js"
        whole = requests.get(path, stream=True, timeout=PATIENCE_S).raw.read(decode_content=False)
        assert len(whole) > 300_000
        port = int(url.rsplit(":", 1)[1])
        received = bytearray()
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
            http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
            http2.initiate_connection()
            head = [(":method", "GET"), (":path", "/docs/swagger-ui-bundle.js"), (":scheme", "http")]
            http2.send_headers(1, [*head, (":authority", "localhost")], end_stream=True)
            client.sendall(http2.data_to_send())
            ended = False
            while not ended and (data := client.recv(16384)):
                for event in http2.receive_data(data):
                    if isinstance(event, h2.events.DataReceived):
                        received += event.data
                        http2.acknowledge_received_data(event.flow_controlled_length, 1)
                    ended = ended or isinstance(event, h2.events.StreamEnded)
                client.sendall(http2.data_to_send())
                time.sleep(0.1)
        assert ended and bytes(received) == whole, f"{len(received)} of {len(whole)} bytes"
