"""The fake of Vertex AI as an HTTP server, and Google's token server as service accounts use it."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from urllib.parse import parse_qs, parse_qsl, urlsplit

import uvicorn
from google.auth import jwt

from tests.deployment.fakes.gcp import BODY

AUDIENCE = "https://oauth2.googleapis.com/token"
"""Google-auth names it whatever the address of the token server is."""


class App:
    """An ASGI app: tokens are given for assertions that the key has signed, and asked for in each call."""

    def __init__(self, vertex, public, url):
        self.vertex, self._public, self.url = vertex, public, url
        self.tokens, self.given, self.echoes = set(), 0, False
        self.lock = threading.Lock()

    async def __call__(self, scope, receive, send):
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, content = self._answer(scope, body)
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})

    def _answer(self, scope, body):
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        with self.lock:
            if scope["path"] == "/token":
                return self._token(body)
            token = headers.get("authorization", "").removeprefix("Bearer ")
            if token not in self.tokens:
                return 401, {"error": {"code": 401, "message": f"bad {token}", "status": "UNAUTHENTICATED"}}
            if len(body) > BODY[headers["host"].startswith("localhost")]:
                return 413, {}
            query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
            path = scope["path"].removeprefix("/v1/")
            status, content = self.vertex.handle(
                scope["method"], path, query, json.loads(body) if body else None, headers["host"]
            )
            if self.echoes and "error" in content:  # as a proxy does that shows what it was sent
                content["error"]["message"] += f" {headers}"
            return status, content

    def _token(self, body):
        assertion = parse_qs(body.decode())["assertion"][0]
        try:
            jwt.decode(assertion, certs=self._public, audience=AUDIENCE)
        except ValueError:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        self.given += 1
        token = f"ya29.secret-token-{self.given}"
        self.tokens.add(token)
        return 200, {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}


@contextmanager
def serving(vertex, public):
    """Yield the app, which answers at its ``url``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        vertex.port = listener.getsockname()[1]
        app = App(vertex, public, f"http://127.0.0.1:{vertex.port}")
        assert urlsplit(app.url).port == vertex.port
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", workers=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield app
        finally:
            server.should_exit = True
            thread.join()
