"""``unitrain bench-serve`` against a server whose delays are known."""

import asyncio
import json
import struct
import threading

import pytest

from unitrain.cli import main
from unitrain.errors import ConfigError
from unitrain.serving.load.client import Address, Answer, parsed
from unitrain.serving.load.command import percentile
from unitrain.serving.load.drive import Load, drive, run_precisely

ROW = [0.5, -1.25, 3.0]
INPUTS = [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}]
OPENAPI = {
    "paths": {
        "/models/digits/predict": {
            "post": {"requestBody": {"content": {"application/json": {"example": {"data": [ROW]}}}}}
        }
    }
}


class Server:
    """Answers each prediction as ``plan(number)`` says: (delay in seconds, status), or None to hang up.

    Attributes:
        asked: The route, the headers and the body of each prediction.
        opened: How many connections there were.
    """

    def __init__(self, plan=lambda number: (0, 200), pages=None, inputs=INPUTS, ending=b""):
        self.plan, self.ending, self.asked, self.opened = plan, ending, [], 0
        self.pages = {"/openapi.json": OPENAPI if pages is None else pages, "/v2/models/digits": {"inputs": inputs}}
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,))
        self._thread.start()
        ready.wait()
        self.url = f"http://127.0.0.1:{self.port}"
        self.address = Address.of(self.url)

    def _run(self, ready):
        async def serve():
            self._stop = asyncio.Event()
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await self._stop.wait()
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        self._loop.run_until_complete(serve())
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    def stop(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, reader, writer):
        self.opened += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader, writer):
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await reader.readexactly(int(headers["Content-Length"]))
        method, route, _ = first.split()
        if method == "GET":
            status, content = (200, json.dumps(self.pages[route])) if route in self.pages else (404, "")
        else:
            number = len(self.asked)
            self.asked.append((route, headers, body))
            planned = self.plan(number)
            if planned is None:
                return False
            delay, status = planned
            await asyncio.sleep(delay)
            content = '{"error": "as planned"}'
        writer.write(f"HTTP/1.1 {status} Planned\r\nContent-Length: {len(content)}\r\n".encode())
        writer.write((self.ending + b"\r\n") + content.encode())
        return not self.ending


@pytest.fixture
def serve():
    made = []

    def start(*args, **kwargs):
        made.append(Server(*args, **kwargs))
        return made[-1]

    yield start
    for one in made:
        one.stop()


def sent(server, connections, seconds, **options):
    load = Load(server.address, server.address.request("POST", "/predict", {}), connections, seconds, **options)
    return run_precisely(drive(load), connections)


def bench(server, capsys, *words):
    status = main(["bench-serve", server.url, "--connections", "2", "--seconds", "0.2", "--json", *words])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err


def test_percentiles_by_hand():
    values = [float(one) for one in range(1, 1001)]
    assert [percentile(values, share) for share in (50, 90, 99, 99.9, 100)] == [500, 900, 990, 999, 1000]
    assert [percentile([1.0, 2.0, 3.0], share) for share in (1, 33.4, 50, 90)] == [1, 2, 2, 3]
    assert percentile([7.0], 99.9) == 7
    assert percentile([], 50) == 0


def test_a_closed_loop_sends_the_next_when_it_has_the_answer(serve):
    """Every fifth answer takes 100 ms, the others 10 ms: 140 ms for five."""
    server = serve(lambda number: (0.1 if number % 5 == 4 else 0.01, 200))
    found = sent(server, 1, 0.7)
    ordered = sorted(found.latencies)
    assert 10 <= len(ordered) <= 25
    assert 0.01 <= percentile(ordered, 50) < 0.06
    assert 0.1 <= percentile(ordered, 90) < 0.2
    assert found.errors == {}
    assert server.opened == 1
    assert 0.7 <= found.seconds < 1.2


def stalls_once(number):
    return (0.5 if number == 20 else 0.0, 200)


def test_a_stall_shows_in_all_requests_that_were_due_during_it(serve):
    """100 a second are due for a second, and from the 20th on nothing is answered for 500 ms.

    So 50 are due in the stall, and wait 500 ms, 490, 480 and so on: a tenth of all waited 410 ms or more.
    """
    ordered = sorted(sent(serve(stalls_once), 1, 1.0, rate=100.0).latencies)
    assert len(ordered) == 100
    assert 0.40 <= percentile(ordered, 90) < 0.5
    assert 0.20 <= percentile(ordered, 70) < 0.3
    assert percentile(ordered, 40) < 0.1
    assert 0.5 <= ordered[-1] < 0.7
    closed = sorted(sent(serve(stalls_once), 1, 0.7).latencies)  # the control: it sees the stall once
    assert percentile(closed, 90) < 0.1
    assert closed[-1] >= 0.5


def test_the_rate_is_kept_and_timers_are_exact(serve):
    server = serve()
    found = sent(server, 4, 0.5, rate=200.0)
    assert len(found.latencies) == 100
    assert 0.49 <= found.seconds < 1
    assert percentile(sorted(found.latencies), 50) < 0.02


def test_what_cannot_be_sent_in_time_is_an_error(serve):
    found = sent(serve(lambda number: (0.1, 200)), 1, 0.2, rate=100.0, timeout=0.3)
    assert len(found.latencies) + found.errors["not sent"] == 20
    assert 3 <= len(found.latencies) <= 6


def test_each_failure_is_counted_by_its_kind(serve):
    plans = {0: (0, 503), 1: None, 2: (9, 200), 3: (0, 200), 4: (0, 422)}
    found = sent(serve(lambda number: plans.get(number, (0, 200))), 1, 0.25, timeout=0.2)
    assert found.errors == {
        "503": 1,
        "ConnectionResetError": 1,
        "timeout": 1,
        **({"422": 1} if found.errors["422"] else {}),
    }


def test_connections_are_kept_and_opened_again_where_the_server_closes_them(serve):
    kept, closing = serve(), serve(ending=b"Connection: close\r\n")
    sent(kept, 3, 0.1)
    assert kept.opened == 3
    found = sent(closing, 3, 0.1)
    assert not found.errors
    assert closing.opened >= len(found.latencies) > 3


def test_the_request_is_made_from_the_services_example(serve, capsys):
    server = serve()
    status, found, _ = bench(server, capsys)
    assert (status, found["failed"], found["errors"]) == (0, 0, {})
    assert found["requests"] + 1 == len(server.asked)  # one to see whether it is taken
    assert found["latency_ms"].keys() == {"p50", "p90", "p99", "p99.9", "max"}
    assert found["body"] == "the service's example"
    assert {(route, body) for route, _, body in server.asked} == {
        ("/models/digits/predict", b'{"data":[[0.5,-1.25,3.0]]}')
    }


def test_rows_and_binary_tensors(serve, capsys):
    server = serve()
    status, found, _ = bench(server, capsys, "--rows", "2", "--binary", "--rate", "50")
    assert (status, found["requests"], found["rows"]) == (0, 10, 2)
    assert found["rows_per_second"] == 2 * found["requests_per_second"]
    route, headers, body = server.asked[0]
    assert route == "/v2/models/digits/infer"
    length = int(headers["Inference-Header-Content-Length"])
    tensor = {"name": "input", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 24}}
    assert json.loads(body[:length]) == {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    assert struct.unpack("<6f", body[length:]) == (*ROW, *ROW)


SEVERAL = [
    {"name": "ids", "datatype": "INT64", "shape": [-1, 2]},
    {"name": "mask", "datatype": "BOOL", "shape": [-1, -1]},
    {"name": "scale", "datatype": "FP16", "shape": [-1]},
]


def test_several_inputs_with_and_without_an_example(serve, capsys):
    shown = {"data": {"ids": [1, 2], "mask": [True, False], "scale": 0.5}}
    schema = {
        "paths": {
            "/predict": {
                "post": {
                    "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}}
                }
            }
        }
    }
    schema["components"] = {"schemas": {"Body": {"examples": [shown]}}}
    server = serve(inputs=SEVERAL, pages=schema)
    bench(server, capsys, "--model", "digits", "--rows", "2")
    assert json.loads(server.asked[0][2]) == {"data": {key: [value, value] for key, value in shown["data"].items()}}
    bench(server, capsys, "--model", "digits", "--binary")
    assert server.asked[-1][2].endswith(struct.pack("<qq??e", 1, 2, True, False, 0.5))
    bare = serve(inputs=SEVERAL, pages={})
    _, found, _ = bench(bare, capsys, "--model", "digits")
    assert json.loads(bare.asked[0][2]) == {"data": {"ids": [[0, 0]], "mask": [[False]], "scale": [0]}}
    assert found["body"] == "zeros, since the service shows no example"


def test_a_batch_of_fixed_size_is_sent_whole(serve, capsys):
    example = [[1.0, 2.0], [3.0, 4.0]]
    server = serve(inputs=[{"name": "input", "datatype": "FP32", "shape": [2, 2]}], pages=_shown(example))
    assert bench(server, capsys)[0] == 0
    assert json.loads(server.asked[0][2]) == {"data": example}
    assert "fixed shape [2, 2]; got --rows 3" in bench(server, capsys, "--rows", "3")[2]


def _shown(data):
    return json.loads(json.dumps(OPENAPI).replace(json.dumps([ROW]), json.dumps(data)))


def test_a_file_and_a_token_are_sent_as_they_are(serve, capsys, tmp_path):
    (tmp_path / "request.json").write_text('{"data": [ 1 ]}')
    (tmp_path / "token").write_text("open-sesame\n")
    server = serve()
    words = ("--data", str(tmp_path / "request.json"), "--token-file", str(tmp_path / "token"))
    assert bench(server, capsys, *words)[0] == 0
    route, headers, body = server.asked[0]
    assert (route, body, headers["Authorization"]) == ("/predict", b'{"data": [ 1 ]}', "Bearer open-sesame")
    assert "has no effect" in bench(server, capsys, *words, "--rows", "2")[2]
    assert "has no effect" in bench(server, capsys, *words, "--binary")[2]
    assert "cannot be read" in bench(server, capsys, "--data", str(tmp_path / "none"))[2]


def test_a_failed_request_is_an_exit_status_of_one(serve, capsys):
    server = serve(lambda number: (0, 503 if number == 3 else 200))
    status, found, _ = bench(server, capsys)
    assert (status, found["failed"], found["errors"]) == (1, 1, {"503": 1})
    assert main(["bench-serve", server.url, "--connections", "2", "--seconds", "0.1"]) == 0
    said = capsys.readouterr().out
    for word in ("requests/s", "p99.9 ms", "failed", "connections 2", f"POST {server.url}/models/digits/predict"):
        assert word in said


def test_a_service_that_refuses_the_first_request_gets_no_further_ones(serve, capsys):
    server = serve(lambda number: (0, 401))
    status, found, said = bench(server, capsys)
    assert (status, found, len(server.asked)) == (1, None, 1)
    assert 'answered 401 at /models/digits/predict: {"error": "as planned"}' in said
    assert "--token-file" in said


@pytest.mark.parametrize(
    ("pages", "words", "told"),
    [
        ({"paths": {"/models/a/predict": {}, "/models/b/predict": {}}}, [], "one of: a, b"),
        ({}, [], "--model NAME, or --data FILE"),
        (None, ["--model", "other"], "no model 'other'"),
    ],
)
def test_a_model_that_is_not_known_is_asked_for(serve, capsys, pages, words, told):
    status, _, said = bench(serve(pages=pages), capsys, *words)
    assert status == 1
    assert told in said


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://a:b@host", "http://host:port"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ConfigError, match=r"URL|must be http"):
        Address.of(url)


def test_no_service_is_said_so(capsys):
    assert main(["bench-serve", "http://127.0.0.1:9", "--seconds", "1"]) == 1
    assert "does not answer" in capsys.readouterr().err


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["bench-serve", "--help"])
    said = capsys.readouterr().out
    for word in ("--rate 500", "How to read it", "--binary", "exit status"):
        assert word in said


@pytest.mark.parametrize("words", [[], ["--rows", "32"], ["--rows", "32", "--binary", "--rate", "100"]])
def test_the_real_service_answers_all(serving, onnx, capsys, words):
    server = serving({"small": onnx})
    command = ["bench-serve", server.url, "--connections", "4", "--seconds", "0.3", "--json", *words]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["failed"] == 0
    assert found["requests"] >= 10
    assert found["body"] == "the service's example"


HTTP = {
    "with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Answer(200, b"abc", True)),
    "in chunks": (
        b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        Answer(503, b"abc", True),
    ),
    "after an announcement": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: Close\r\n\r\n",
        Answer(200, b"", False),
    ),
    "without a body": (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, b"", True)),
    "of an old server": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", Answer(200, b"a", False)),
}


@pytest.mark.parametrize("case", HTTP)
def test_an_answer_is_taken_when_it_is_whole(case):
    content, answer = HTTP[case]
    assert parsed(content) == answer
    assert [parsed(content[:end]) for end in range(len(content))] == [None] * len(content)


def test_an_answer_may_end_where_the_connection_does():
    content = b"HTTP/1.1 200 OK\r\n\r\nabc"
    assert parsed(content) is None
    assert parsed(content, ended=True) == Answer(200, b"abc", False)
    for bad in (b"SSH-2.0\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"):
        with pytest.raises(ValueError, match=r"SSH|abc"):
            parsed(bad)
