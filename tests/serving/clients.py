"""Clients that share no code with the server: the standard library's, and raw sockets."""

import http.client
import json
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict = field(default_factory=dict)

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """One connection, which is opened again where the server closed it."""

    def __init__(self, url, timeout=30):
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self._connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._connection.close()

    def ask(self, method, path, body=None, content_type="application/json", **headers):
        """Return the answer; a dict or a list is sent as JSON."""
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None and content_type:
            sent["Content-Type"] = content_type
        self._connection.request(method, path, data, sent)
        found = self._connection.getresponse()
        answer = Answer(found.status, found.read(), {name.lower(): value for name, value in found.getheaders()})
        if found.will_close:
            self._connection.close()
        return answer

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def post(self, path, body, content_type="application/json", **headers):
        return self.ask("POST", path, body, content_type, **headers)

    def predict(self, data, **headers):
        return self.post("/predict", {"data": data}, **headers)


def raw(url, *parts, timeout=10):
    """Send bytes as they are and return all that comes until the server closes, or None if it does not."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=timeout) as sock:
        for part in parts:
            sock.sendall(part)
        found = b""
        try:
            while block := sock.recv(65536):
                found += block
        except TimeoutError:
            return None
        return found
