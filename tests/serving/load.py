"""Clients that ask without a pause from threads, and note each answer."""

import http.client
import json
import threading
from urllib.parse import urlsplit

BODY = json.dumps({"data": [0.5, 1.0, -1.0, 2.0]}).encode()
HEADERS = {"Content-Type": "application/json"}


class Load:
    """So many clients; each opens a connection again where it was closed between two requests.

    Attributes:
        answers: ``(status, body)`` of each answered request.
        lost: Errors of requests that were accepted and not answered.
        refused: Connections that could not be opened.
    """

    def __init__(self, url, clients=8, body=BODY, path="/predict"):
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        self._body, self._path = body, path
        self._end = threading.Event()
        self.answers, self.lost, self.refused = [], [], 0
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self):
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self._end.set()
        for one in self._threads:
            one.join(60)

    def _ask(self):
        connection, is_used = None, False
        while not self._end.is_set():
            if connection is None:
                connection, is_used = self._connected(), False
                continue
            try:
                connection.request("POST", self._path, self._body, HEADERS)
                found = connection.getresponse()
                self.answers.append((found.status, found.read()))
                is_used = True
            except (OSError, http.client.HTTPException) as error:
                # the kernel may take a connection that the server never does; one that was used was accepted
                if is_used or not isinstance(error, ConnectionError):
                    self.lost.append(error)
                connection.close()
                connection = None
                continue
            if found.will_close:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _connected(self):
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        try:
            connection.connect()
        except OSError:
            self.refused += 1
            connection.close()
            self._end.wait(0.01)
            return None
        return connection
