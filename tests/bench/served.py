"""The servers that are compared, each run as ``python -m tests.bench.served NAME PORT MODEL``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 64


def session_of(model: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def unitrain(port: int, model: str) -> None:
    """Serve with unitrain, as a user would."""
    from unitrain.serving.serve import serve

    serve(model, port=port)


def fastapi(port: int, model: str) -> None:
    """Serve with FastAPI and pydantic, as its tutorial shows."""
    import numpy as np
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Body(BaseModel):
        data: list[list[float]]

    class Answer(BaseModel):
        prediction: list[list[float]]
        confidence: float

    app, session = FastAPI(), session_of(model)
    name = session.get_inputs()[0].name

    async def predict(body: Body) -> Answer:
        found = session.run(None, {name: np.asarray(body.data, np.float32)})[0]
        top = np.exp(found - found.max(-1, keepdims=True))
        return Answer(prediction=found.tolist(), confidence=float((top / top.sum(-1, keepdims=True)).max(-1).mean()))

    predict.__annotations__ = {"body": Body, "return": Answer}  # of this function, which texts cannot name
    app.post("/predict")(predict)
    uvicorn.run(app, port=port, log_level="error", access_log=False)


def litserve(port: int, model: str) -> None:
    """Serve with LitServe, as its tutorial shows."""
    from tests.bench.served_by_litserve import serve

    serve(port, model)


def echo(port: int, model: str) -> None:
    """Answer each request with a constant, as bare ASGI."""
    import uvicorn

    del model
    body = b'{"prediction":[[0.0]],"confidence":1.0}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(app, port=port, log_level="error", access_log=False, lifespan="off")


SERVERS: dict[str, Callable[[int, str], None]] = {one.__name__: one for one in (unitrain, fastapi, litserve, echo)}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]), sys.argv[3])
