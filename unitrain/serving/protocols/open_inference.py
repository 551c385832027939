"""The Open Inference Protocol v2, with its binary extension.

https://github.com/kserve/open-inference-protocol and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import orjson

from unitrain.serving.arrays import is_shape
from unitrain.serving.messages import BYTES, JSON, Call, Response, json_response
from unitrain.serving.protocols.plain import parsed, require_finite
from unitrain.serving.refusals import NOT_FOUND, UNSUPPORTED, Refusal, invalid, malformed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain.serving.arrays import Array, InputReader
    from unitrain.serving.batching import Share
    from unitrain.serving.signature import TensorInfo

VERSION: Final = "1"
"""The only version of a model; the file's sha256 tells which one it is."""

_DATATYPES: Final = {
    "bool": "BOOL",
    **{f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
_SIZE_KEY, _BINARY, _ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"


def metadata(call: Call) -> Response:
    """Answer with the model's inputs and outputs."""
    loaded = call.model.loaded
    return json_response(
        {
            "name": loaded.name,
            "versions": [VERSION],
            "platform": loaded.model.format,
            "inputs": [_tensor(one) for one in loaded.signature.inputs],
            "outputs": [_tensor(one) for one in loaded.signature.outputs],
        }
    )


def _tensor(info: TensorInfo) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in info.shape or ()]
    return {"name": info.name, "datatype": _DATATYPES[info.dtype], "shape": shape}


async def infer(call: Call) -> Response:
    """Answer an inference request, each output as JSON or as raw bytes, as it was asked.

    Raises:
        Refusal: If it is invalid.
    """
    header, tail = _split(call)
    content = parsed(header)
    if not isinstance(content, dict) or not isinstance(content.get("inputs"), list):
        raise malformed('the body must be {"inputs": [{"name", "shape", "datatype", "data"}, ...]}.')
    given = _inputs(content["inputs"], call.model.reader.by_name, _Tail(tail))
    wanted = _wanted(content, call.model.loaded.signature.outputs)
    rows = call.model.reader.named(given, lambda _, array: array)
    share = await call.model.batcher.submit(rows)
    return _response(share, content.get("id"), wanted)


def _split(call: Call) -> tuple[bytes, memoryview]:
    """Return the JSON part of the body and the raw part after it.

    Raises:
        Refusal: If the announced length is invalid, or the content type is another one.
    """
    request = call.request
    if request.content_type not in (JSON, BYTES, b""):
        raise Refusal(UNSUPPORTED, "the content type must be application/json or application/octet-stream.")
    if request.json_length is None:
        return request.body, memoryview(b"")
    text = request.json_length
    length = int(text) if text.isdigit() and len(text) < 20 else -1  # noqa: PLR2004 - int() refuses thousands of digits
    if not 0 < length <= len(request.body):
        raise malformed(f"Inference-Header-Content-Length is invalid for a body of {len(request.body)} bytes.")
    return request.body[:length], memoryview(request.body)[length:]


class _Tail:
    """The raw bytes after the JSON, taken from the front."""

    def __init__(self, data: memoryview) -> None:
        self._left = data

    def take(self, size: int, name: str) -> memoryview:
        if size > len(self._left):
            raise malformed(f"input {name!r}: {size} bytes are announced, and {len(self._left)} are left.")
        found, self._left = self._left[:size], self._left[size:]
        return found

    def require_empty(self) -> None:
        if self._left:
            raise malformed(f"{len(self._left)} bytes are left after the last input.")


def _inputs(given: list[Any], readers: Mapping[str, InputReader], tail: _Tail) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for one in given:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise malformed("each input needs a name, a shape, a datatype and data.")
        reader = readers.get(one["name"])
        if reader is None or one["name"] in found:
            raise invalid(f"the inputs are {', '.join(map(repr, readers))}, once each; got {one['name']!r:.80}.")
        found[one["name"]] = _array(one, reader, tail)
    tail.require_empty()
    return found


def _array(given: Mapping[str, Any], reader: InputReader, tail: _Tail) -> Array:
    name, shape = given["name"], _shape(given)
    datatype = _DATATYPES[reader.info.dtype]
    if given.get("datatype") != datatype:
        raise invalid(f"input {name!r} has the datatype {datatype}; got {given.get('datatype')!r:.80}.")
    parameters = given.get("parameters") or {}
    size = parameters.get(_SIZE_KEY) if isinstance(parameters, dict) else None
    if size is not None:
        wanted = prod(shape) * reader.dtype.itemsize
        if isinstance(size, bool) or size != wanted:
            raise malformed(f"input {name!r} of shape {shape} has {wanted} bytes; {_SIZE_KEY} is {size!r:.80}.")
        return reader.from_bytes(tail.take(wanted, name), shape)
    if not isinstance(given.get("data"), list):
        raise malformed(f'input {name!r} needs "data", a list, or the parameter {_SIZE_KEY}.')
    found = reader.from_json(given["data"])
    if found.size != prod(shape):
        raise malformed(f"input {name!r} of shape {shape} has {prod(shape)} numbers; got {found.size}.")
    return found.reshape(shape)


def _shape(given: Mapping[str, Any]) -> list[int]:
    shape = given.get("shape")
    if not is_shape(shape):
        raise malformed(f"input {given['name']!r:.80}: the shape must be a list of lengths from 1; got {shape!r:.80}.")
    return list(shape or ())


class _Wanted(NamedTuple):
    """An output that was asked for."""

    place: int
    is_binary: bool


def _wanted(content: Mapping[str, Any], outputs: tuple[TensorInfo, ...]) -> list[_Wanted]:
    """Return the outputs that the client wants; all if it names none.

    Raises:
        Refusal: If one is unknown.
    """
    every = _flag(content, _ALL_BINARY)
    given = content.get("outputs")
    if not given:
        return [_Wanted(index, bool(every)) for index in range(len(outputs))]
    names = [one.name for one in outputs]
    found: list[_Wanted] = []
    for one in given if isinstance(given, list) else [given]:
        name = one.get("name") if isinstance(one, dict) else None
        if name not in names:
            raise Refusal(NOT_FOUND, f"the outputs are {', '.join(map(repr, names))}; got {name!r:.80}.")
        if any(names[other.place] == name for other in found):
            raise invalid(f"the output {name!r} is asked for twice.")
        own = _flag(one, _BINARY)
        found.append(_Wanted(names.index(name), bool(every if own is None else own)))
    return found


def _flag(given: Mapping[str, Any], name: str) -> bool | None:
    parameters = given.get("parameters")
    found = parameters.get(name) if isinstance(parameters, dict) else None
    if found is not None and not isinstance(found, bool):
        raise malformed(f"the parameter {name} must be true or false; got {found!r:.80}.")
    return found


def _response(share: Share, request_id: Any, wanted: list[_Wanted]) -> Response:
    if not share.answer.finite and not all(one.is_binary for one in wanted):
        require_finite(share)
    loaded, arrays = share.answer.loaded, share.outputs
    described, raw = [], []
    for index, is_binary in wanted:
        info, array = loaded.signature.outputs[index], arrays[index]
        one: dict[str, Any] = {"name": info.name, "datatype": _DATATYPES[info.dtype], "shape": list(array.shape)}
        if is_binary:
            raw.append(np.ascontiguousarray(array).tobytes())
            one["parameters"] = {_SIZE_KEY: len(raw[-1])}
        else:
            one["data"] = np.ascontiguousarray(array).ravel()
        described.append(one)
    content = {"model_name": loaded.name, "model_version": VERSION, "outputs": described}
    if isinstance(request_id, str):
        content["id"] = request_id
    if not raw:
        return json_response(content)
    head = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    length = (b"inference-header-content-length", str(len(head)).encode())
    return Response(b"".join([head, *raw]), BYTES, headers=(length,))
