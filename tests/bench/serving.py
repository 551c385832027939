"""What a request costs: unitrain's service beside LitServe, FastAPI with pydantic and an echo, on one machine."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import psutil
import torch
import uvloop
from torch import nn

import unitrain
from tests.bench.served import SERVERS, WIDTH
from tests.bench.tuning import Row, row
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS, SECONDS, ROUNDS, MANY = 32, 1.5, 5, 32
MICRO, MIB = 1e6, 2**20


@dataclass(frozen=True)
class Asked:
    """What a client measured.

    Attributes:
        cpu: Microseconds of the server's processors a request.
        p50: Milliseconds.
    """

    cpu: float
    p50: float


class Running:
    """A server in a process of its own."""

    def __init__(self, name: str, model: Path) -> None:
        self.name, self.port = name, free_port()
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.served", name, str(self.port), str(model)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        asyncio.run(self._until_it_answers())
        self.start = time.perf_counter() - began

    async def _until_it_answers(self) -> None:
        request = as_json(1)
        for _ in range(1200):
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(request)
                status = await _answer(reader)
                writer.close()
                if status == 200:
                    return
            await asyncio.sleep(0.05)
        raise RuntimeError(f"{self.name} does not answer")

    def _family(self) -> list[psutil.Process]:
        own = psutil.Process(self._process.pid)
        return [own, *own.children(recursive=True)]

    def cpu(self) -> float:
        """Return seconds of all its processes."""
        return sum(sum(one.cpu_times()[:2]) for one in self._family())

    def memory(self) -> float:
        """Return MiB of all its processes."""
        return sum(one.memory_info().rss for one in self._family()) / MIB

    def asked(self, request: bytes, connections: int) -> Asked:
        """Ask without a pause, and return what it cost."""
        before = self.cpu()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            latencies = runner.run(_ask(self.port, request, connections))
        return Asked((self.cpu() - before) / len(latencies) * MICRO, median(latencies) * 1000)

    def stop(self) -> None:
        """End it."""
        for one in reversed(self._family()):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self._process.wait()


class _Client(asyncio.Protocol):
    """Asks again as soon as it has an answer; lean, so that the server is what is measured."""

    def __init__(self, request: bytes, end: float, latencies: list[float], done: asyncio.Future[None]) -> None:
        self._request, self._end, self._latencies, self._done = request, end, latencies, done
        self._left, self._head, self._began = 0, b"", 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            assert self._head[9:12] == b"200", self._head
            self._left = end + 4 + _length(self._head) - len(self._head)
            self._head = b""
        else:
            self._left -= len(data)
        if self._left:
            return
        now = time.perf_counter()
        self._latencies.append(now - self._began)
        if now < self._end:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._done.set_result(None)


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])


async def _ask(port: int, request: bytes, connections: int) -> list[float]:
    latencies: list[float] = []
    loop, end = asyncio.get_running_loop(), time.perf_counter() + SECONDS
    done = [loop.create_future() for _ in range(connections)]
    for one in done:
        await loop.create_connection(partial(_Client, request, end, latencies, one), "127.0.0.1", port)
    await asyncio.gather(*done)
    return latencies


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(_length(head))
    return int(head.split(b" ", 2)[1])


def _http(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _rows(count: int) -> Any:
    return np.random.default_rng(0).standard_normal((count, WIDTH)).astype(np.float32)


def as_json(rows: int) -> bytes:
    """Return a request as JSON."""
    body = json.dumps({"data": [[round(float(one), 4) for one in row_] for row_ in _rows(rows)]}).encode()
    return _http("/predict", body, "Content-Type: application/json")


def as_bytes(rows: int, name: str) -> bytes:
    """Return the same as raw bytes, by the Open Inference Protocol."""
    data = _rows(rows).tobytes()
    tensor = {"name": name, "shape": [rows, WIDTH], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    kinds = ("Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {len(head)}")
    return _http("/v2/models/served/infer", head + data, *kinds)


def compared() -> tuple[list[Row], list[dict[str, Any]]]:
    """Return the goals and the table."""
    with TemporaryDirectory() as folder:
        model = Path(folder) / "served.onnx"
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
        unitrain.export_module(net, model, example_input=torch.randn(8, WIDTH))
        table = list(_measured(model))
        return list(_goals(table, _engine(model))), table


def _measured(model: Path) -> Iterator[dict[str, Any]]:
    names = [name for name in SERVERS if name != "litserve" or importlib.util.find_spec("litserve")]
    name = onnxruntime.InferenceSession(str(model)).get_inputs()[0].name
    running = {one: Running(one, model) for one in names}
    try:
        found: dict[str, dict[str, list[Asked]]] = {one: {} for one in names}
        for _ in range(ROUNDS):
            for server, one in running.items():
                works = {
                    "one row": (as_json(1), CONNECTIONS),
                    "one client": (as_json(1), 1),
                    "32 rows": (as_json(MANY), 8),
                }
                if server == "unitrain":
                    works["32 rows, binary"] = (as_bytes(MANY, name), 8)
                for work, (request, connections) in works.items():
                    found[server].setdefault(work, []).append(one.asked(request, connections))
        for server, one in running.items():
            yield {
                "server": server,
                **{f"{work}, us": median(each.cpu for each in rounds) for work, rounds in found[server].items()},
                "one client, p50 ms": median(each.p50 for each in found[server]["one client"]),
                "start, s": one.start,
                "memory, MiB": one.memory(),
            }
    finally:
        for one in running.values():
            one.stop()


def _engine(model: Path) -> float:
    """Return the time of ``engine.serve`` of one row as a ratio to onnxruntime's own ``run``."""
    engine = unitrain.InferenceEngine(model, threads=1)
    x, session = _rows(1), engine.native
    name = session.get_inputs()[0].name
    ours, raw = [], []
    gc.disable()  # as timeit does
    for _ in range(50):
        began = time.process_time()
        for _ in range(200):
            engine.serve(x)
        middle = time.process_time()
        for _ in range(200):
            session.run(None, {name: x})
        ours.append(middle - began)
        raw.append(time.process_time() - middle)
    gc.enable()
    return median(ours) / median(raw)


def _goals(table: list[dict[str, Any]], engine: float) -> Iterator[Row]:
    by = {one["server"]: one for one in table}
    own = by["unitrain"]
    cpu = "one row, us"
    yield row("a row's CPU", "of fastapi", own[cpu] / by["fastapi"][cpu], 0.25)
    if "litserve" in by:
        yield row("a row's CPU", "of litserve", own[cpu] / by["litserve"][cpu], 0.10)
    yield row("a row's CPU", "of the echo", own[cpu] / by["echo"][cpu], 2.5)
    p50 = "one client, p50 ms"
    yield row("one client's p50", "of fastapi", own[p50] / by["fastapi"][p50], 1.0)
    yield row("32 rows as bytes", "of JSON", own["32 rows, binary, us"] / own["32 rows, us"], 0.35)
    yield row("engine.serve", "of run()", engine, 2.0)
    yield row("start, s", "-", own["start, s"], 2.0)
    yield row("memory, MiB", "-", own["memory, MiB"], 120)
