"""A model as LitServe's tutorial serves it; its processes import the class from here."""

from __future__ import annotations

from typing import Any

import litserve
import numpy as np

from tests.bench.served import session_of


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Runs the model."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def setup(self, device: str) -> None:
        """Load the model."""
        del device
        self._session = session_of(self._model)
        self._name = self._session.get_inputs()[0].name

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """Return the rows."""
        return np.asarray(request["data"], np.float32)

    def predict(self, x: Any) -> Any:
        """Return the outputs."""
        return self._session.run(None, {self._name: x})[0]

    def encode_response(self, output: Any) -> Any:
        """Return the answer."""
        return {"prediction": output.tolist()}


def serve(port: int, model: str) -> None:
    """Serve until killed."""
    server = litserve.LitServer(Api(model), accelerator="cpu")
    server.run(port=port, host="127.0.0.1", log_level="error", generate_client_file=False)
