"""One array as ``numpy.save`` writes it, in and out."""

from __future__ import annotations

from io import BytesIO
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.lib import format as npy_format

from unitrain.serving.arrays import MOST_AXES, is_shape, whole, without_batch_axis
from unitrain.serving.messages import NPY, Call, Response
from unitrain.serving.refusals import UNSUPPORTED, Refusal, malformed

if TYPE_CHECKING:
    from unitrain.serving.arrays import Array

_HEADERS: Final = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


async def predict(call: Call) -> Response:
    """Answer an array with the array of the only output.

    Raises:
        Refusal: If the body is not such an array, or the model has several inputs or outputs.
    """
    loaded, reader = call.model.loaded, call.model.reader
    if len(loaded.signature.outputs) > 1:
        names = ", ".join(one.name for one in loaded.signature.outputs)
        raise Refusal(
            UNSUPPORTED, f"application/x-npy holds one array, and the model has the outputs {names}; use JSON or /v2."
        )
    rows = reader.rows([reader.only().from_array(read(call.request.body))])
    share = await call.model.batcher.submit(rows)
    found = share.outputs[0]
    file = BytesIO()
    np.save(file, without_batch_axis([found])[0] if rows.single else found, allow_pickle=False)
    return Response(file.getvalue(), NPY)


def read(body: bytes) -> Array:
    """Return the array in ``body``; its size is compared with the header's before anything is made.

    Raises:
        Refusal: If it is not one array of numbers, whole.
    """
    file = BytesIO(body)
    try:
        shape, fortran_order, dtype = _HEADERS[npy_format.read_magic(file)](file)
    except Exception:  # noqa: BLE001 - it evaluates a Python literal, and raises whatever the parser of Python does
        raise malformed("the body is not an array as numpy.save writes it.") from None
    data = memoryview(body)[file.tell() :]
    if dtype.hasobject or dtype.kind not in "biuf":
        raise malformed(f"the array must hold numbers; its dtype is {dtype!s:.80}.")
    if not is_shape(shape):
        raise malformed(f"the array's shape is invalid: at most {MOST_AXES} axes of lengths from 1 are accepted.")
    if prod(shape) * dtype.itemsize != len(data):
        raise malformed(f"the array of shape {list(shape)} and dtype {dtype} has {len(data)} bytes.")
    flat: Array = whole(np.frombuffer(data, dtype))
    made = flat.reshape(shape, order="F" if fortran_order else "C")
    return np.ascontiguousarray(made.astype(made.dtype.newbyteorder("="), copy=False)) if made.ndim else made
