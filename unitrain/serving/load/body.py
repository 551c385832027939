"""Makes the request from what the service says of itself: its signature and its example."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Get = Callable[[str], Awaitable[Any]]
    """Returns the JSON at a route, or None if there is none."""

_NAMED = re.compile(r"/models/([^/{}]+)/predict")
_FORMS = {
    "FP64": "d", "FP32": "f", "FP16": "e", "BOOL": "?", "INT64": "q", "INT32": "i", "INT16": "h", "INT8": "b",
    "UINT64": "Q", "UINT32": "I", "UINT16": "H", "UINT8": "B",
}  # fmt: skip
"""How ``struct`` writes what the Open Inference Protocol calls so."""


@dataclass(frozen=True)
class Tensor:
    """One input.

    Attributes:
        name: Of the input.
        datatype: As the Open Inference Protocol calls it.
        shape: With the rows that are sent.
        values: In nested lists.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any


@dataclass(frozen=True)
class Body:
    """What is sent.

    Attributes:
        route: Where to.
        headers: Of the request.
        content: Of the request.
        told: What it is made from.
    """

    route: str
    headers: Mapping[str, str]
    content: bytes
    told: str


def of_file(content: bytes, model: str | None) -> Body:
    """Return a request with the JSON of a file, unchanged."""
    return Body(_predict(model), {"Content-Type": "application/json"}, content, "the file")


async def of_service(get: Get, model: str | None, rows: int, *, binary: bool) -> Body:
    """Return a request made from the service's own example.

    Args:
        get: Asks the service.
        model: Its name; None for the only one.
        rows: How many to send; the example's row, again and again.
        binary: Whether to send the tensors by the Open Inference Protocol's binary extension.

    Raises:
        ConfigError: If the service does not say what it takes, or takes another number of rows.
    """
    pages = await get("/openapi.json")
    paths = pages.get("paths", {}) if isinstance(pages, dict) else {}
    name = model or _only(paths)
    found = await get(f"/v2/models/{quote(name, safe='')}")
    if not isinstance(found, dict) or not found.get("inputs"):
        raise ConfigError(f"the service has no model {name!r} at /v2/models.", hint=_others(paths))
    example = _example(pages, paths, name)
    tensors = [_tensor(one, _values(example, one["name"], len(found["inputs"])), rows) for one in found["inputs"]]
    told = "zeros, since the service shows no example" if example is None else "the service's example"
    return _binary(name, tensors, told) if binary else _plain(name, tensors, told)


def _predict(model: str | None) -> str:
    return "/predict" if model is None else f"/models/{quote(model, safe='')}/predict"


def _names(paths: Mapping[str, Any]) -> list[str]:
    return [unquote(match[1]) for match in map(_NAMED.fullmatch, paths) if match]


def _only(paths: Mapping[str, Any]) -> str:
    names = _names(paths)
    if len(names) != 1:
        raise ConfigError("which model? The service does not have exactly one.", hint=_others(paths))
    return names[0]


def _others(paths: Mapping[str, Any]) -> str:
    names = ", ".join(_names(paths))
    return f"--model NAME, one of: {names}" if names else "--model NAME, or --data FILE with a request of your own."


def _example(pages: Any, paths: Mapping[str, Any], name: str) -> Any:
    """Return the ``data`` of the example in the OpenAPI page, or None."""
    for path in (_predict(name), "/predict"):
        content = paths.get(path, {}).get("post", {}).get("requestBody", {}).get("content", {})
        media = content.get("application/json", {})
        schema = media.get("schema", {})
        if "$ref" in schema:
            schema = pages["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        several = list(media.get("examples", {}).values())
        shown = [media.get("example"), *(one.get("value") for one in several)]
        shown += [schema.get("example"), *schema.get("examples", [])]
        for one in shown:
            if isinstance(one, dict) and "data" in one:
                return one["data"]
    return None


def _values(example: Any, name: str, inputs: int) -> Any:
    """Return the example of one input."""
    if isinstance(example, dict):
        return example.get(name)
    return example if inputs == 1 else None


def _tensor(about: Mapping[str, Any], example: Any, rows: int) -> Tensor:
    """Return ``rows`` rows of an input.

    Raises:
        ConfigError: If its batch is fixed to another number.
    """
    shape = [int(one) for one in about["shape"]]
    datatype = str(about["datatype"])
    if datatype not in _FORMS:
        raise ConfigError(f"{about['name']!r} is {datatype}, which is not supported.", hint="--data FILE")
    dynamic = bool(shape) and shape[0] < 0
    if not dynamic and rows != 1 and shape[:1] != [rows]:
        raise ConfigError(f"{about['name']!r} has the fixed shape {shape}; got --rows {rows}.", hint="remove --rows.")
    sides = [max(one, 1) for one in shape]
    values = _filled(False if datatype == "BOOL" else 0, sides) if example is None else example
    if dynamic:
        row = values if _depth(values) == len(shape) - 1 else values[0]
        values = [row] * rows
    return Tensor(str(about["name"]), datatype, _shape(values), values)


def _filled(value: Any, sides: list[int]) -> Any:
    for side in reversed(sides):
        value = [value] * side
    return value


def _shape(values: Any) -> tuple[int, ...]:
    return (len(values), *(_shape(values[0]) if values else ())) if isinstance(values, list) else ()


def _depth(values: Any) -> int:
    return len(_shape(values))


def _flat(values: Any) -> list[Any]:
    return [number for one in values for number in _flat(one)] if isinstance(values, list) else [values]


def _plain(name: str, tensors: list[Tensor], told: str) -> Body:
    data = tensors[0].values if len(tensors) == 1 else {one.name: one.values for one in tensors}
    content = json.dumps({"data": data}, separators=(",", ":")).encode()
    return Body(_predict(name), {"Content-Type": "application/json"}, content, told)


def _binary(name: str, tensors: list[Tensor], told: str) -> Body:
    """Return the tensors as bytes after a short JSON, and ask for such an answer."""
    parts = [_packed(one) for one in tensors]
    inputs = [
        {
            "name": one.name,
            "datatype": one.datatype,
            "shape": one.shape,
            "parameters": {"binary_data_size": len(part)},
        }
        for one, part in zip(tensors, parts, strict=True)
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Body(f"/v2/models/{quote(name, safe='')}/infer", headers, head + b"".join(parts), told)


def _packed(tensor: Tensor) -> bytes:
    numbers = _flat(tensor.values)
    return struct.pack(f"<{len(numbers)}{_FORMS[tensor.datatype]}", *numbers)
