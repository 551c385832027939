"""Asks a running bundle for predictions, by each protocol."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unitrain.serving.arrays import Array
    from unitrain.serving.signature import Signature

TIMEOUT: Final = 60.0
_DATATYPES: Final = {"bool": "BOOL", "float": "FP", "int": "INT", "uint": "UINT"}


class Answer(NamedTuple):
    """What came back.

    Attributes:
        status: Of HTTP.
        body: As it was sent.
    """

    status: int
    body: bytes


@dataclass(frozen=True)
class Client:
    """Asks a service on this machine.

    Attributes:
        port: Of the service.
    """

    port: int

    def ask(self, method: str, path: str, body: bytes | None = None, timeout: float = TIMEOUT) -> Answer:
        """Return the answer to one request.

        Raises:
            OSError: If nobody answers.
            http.client.HTTPException: If the answer is not HTTP.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            found = connection.getresponse()
            return Answer(found.status, found.read())
        finally:
            connection.close()

    def announce(self, path: str, size: int, timeout: float) -> Answer:
        """Return the answer to the head of a request with a body of ``size`` bytes, which is not sent.

        Raises:
            OSError: If nobody answers.
            http.client.HTTPException: If the answer is not HTTP.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.putrequest("POST", path)
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(size))
            connection.endheaders()
            found = connection.getresponse()
            return Answer(found.status, found.read())
        finally:
            connection.close()


def question(protocol: str, signature: Signature, inputs: list[Array]) -> bytes:
    """Return the body of a request.

    Args:
        protocol: A key of ``ASKED``.
        signature: Of the model.
        inputs: An array for each input.
    """
    return json.dumps(ASKED[protocol](signature, inputs)).encode()


def numbers_of(protocol: str, signature: Signature, body: bytes) -> list[Array]:
    """Return the outputs in an answer, each as one row of numbers.

    Raises:
        ValueError: If it is something else; or LookupError, or TypeError.
    """
    found = _FOUND[protocol](signature, json.loads(body))
    return [np.asarray(one, np.float64).ravel() for one in found]


def _data(signature: Signature, inputs: list[Array]) -> Any:
    if len(inputs) == 1:
        return {"data": inputs[0].tolist()}
    return {"data": {one.name: array.tolist() for one, array in zip(signature.inputs, inputs, strict=True)}}


def _instances(signature: Signature, inputs: list[Array]) -> Any:
    if len(inputs) == 1:
        return {"instances": inputs[0].tolist(), "parameters": {}}
    names = [one.name for one in signature.inputs]
    rows = zip(*(one.tolist() for one in inputs), strict=True)
    return {"instances": [dict(zip(names, row, strict=True)) for row in rows], "parameters": {}}


def _open_inference(signature: Signature, inputs: list[Array]) -> Any:
    described = [
        {"name": one.name, "shape": list(array.shape), "datatype": _datatype(one.dtype), "data": array.ravel().tolist()}
        for one, array in zip(signature.inputs, inputs, strict=True)
    ]
    return {"inputs": described}


def _datatype(dtype: str) -> str:
    kind = dtype.rstrip("0123456789")
    return _DATATYPES[kind] + dtype.removeprefix(kind)


ASKED: Final[Mapping[str, Callable[[Signature, list[Array]], Any]]] = {
    "data": _data,
    "instances": _instances,
    "open_inference": _open_inference,
}
"""What is asked, by protocol: plain, of Vertex AI, and of KServe (Open Inference Protocol v2)."""


def _of_data(signature: Signature, answer: Any) -> list[Any]:
    found = answer["prediction"]
    return [found[one.name] for one in signature.outputs] if isinstance(found, dict) else [found]


def _of_instances(signature: Signature, answer: Any) -> list[Any]:
    found = answer["predictions"]
    names = [one.name for one in signature.outputs]
    if isinstance(found, dict):
        return [found[name] for name in names]
    return [[row[name] for row in found] for name in names] if isinstance(found[0], dict) else [found]


def _of_open_inference(signature: Signature, answer: Any) -> list[Any]:
    outputs = {one["name"]: one["data"] for one in answer["outputs"]}
    return [outputs[one.name] for one in signature.outputs]


_FOUND: Final[Mapping[str, Callable[[Signature, Any], list[Any]]]] = {
    "data": _of_data,
    "instances": _of_instances,
    "open_inference": _of_open_inference,
}
