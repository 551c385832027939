"""The page in a real browser, asking a small service that answers as it is told."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

import unitrain
from tests.serving.browser import running_browser
from unitrain.serving.page import page as page_module
from unitrain.serving.page.page import page

ROW = [round(0.1 * number, 1) for number in range(64)]
DIGITS = {
    "name": "digits",
    "file": "digits.onnx",
    "format": "onnx",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 64]}],
    "outputs": [{"name": "output", "dtype": "float32", "shape": ["batch", 10]}],
    "example": {"input": ROW},
    "metrics": {"val/acc": 0.9721, "val/loss": float("nan")},
    "versions": {"unitrain": "1.0", "torch": "2.13.0"},
    "loaded": "2026-11-29T19:00:00+00:00",
}
TWO = {
    **DIGITS,
    "name": "two",
    "inputs": [
        {"name": "ids", "dtype": "int64", "shape": ["batch", 3]},
        {"name": "mask", "dtype": "bool", "shape": ["batch", 2]},
    ],
    "example": {"ids": [9007199254740993, 1, 2], "mask": [True, False]},
    "metrics": {},
}
SCORES = [0.01, 0.9, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01]
EVIL = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 2'>\"'`${window.hit = 3}\u2028&lt;"


class Service(ThreadingHTTPServer):
    """Answers the page's routes, and keeps what it was asked.

    Attributes:
        answer: The status and the JSON that a prediction is answered with.
        token: What is asked for, if anything.
        asked: The path, the authorization and the body of each request for a prediction.
    """

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.token, self.asked, self.looks = content, None, [], 0
        self.answer = (200, {"prediction": SCORES, "confidence": 0.9})
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.thread.start()

    def told(self):
        """Return what is at /models."""
        return {"models": [TWO]}

    def stats(self):
        """Return totals of 40 requests, 4 errors and 20 batches more each second."""
        self.looks += 1
        done = self.looks
        totals = {"requests": 40 * done, "errors": 4 * done, "queue": 5, "batches": 20 * done, "rows": 60 * done}
        return {**totals, "latency_ms": {"p50": 2.5, "p95": 4.0, "p99": 7.0}, "uptime_s": done}

    def stop(self):
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/":
            self._send(200, "text/html; charset=utf-8", self.server.content.encode())
        elif not self._refused():
            said = self.server.told() if self.path == "/models" else self.server.stats()
            self._send(200, "application/json", json.dumps(said).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], body.decode()))
        if not self._refused():
            status, said = self.server.answer
            self._send(status, "application/json", json.dumps(said).encode())

    def _refused(self):
        if self.server.token in (None, (self.headers["Authorization"] or "").removeprefix("Bearer ")):
            return False
        self._send(401, "application/json", b'{"error": "a token is required."}')
        return True

    def _send(self, status, kind, content):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with running_browser(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.fixture
def serve():
    made = []

    def start(*models):
        made.append(Service(page(list(models), version="1.0")))
        return made[-1]

    yield start
    for one in made:
        one.stop()


def errors(tab):
    """Return the exceptions, and what the console and the policy said."""
    thrown = [one["exceptionDetails"]["text"] for one in tab.seen("Runtime.exceptionThrown")]
    return thrown + [one["entry"]["text"] for one in tab.seen("Log.entryAdded")]


def test_it_predicts_with_the_example_by_the_keyboard(browser, serve):
    service = serve(DIGITS)
    with browser.tab(service.url) as tab:
        assert tab.text("h1") == "digits"
        assert json.loads(tab.value("document.querySelector('textarea').value")) == ROW
        for _ in range(20):
            tab.press("Tab", 9)
            if tab.value("document.activeElement.id") == "predict":
                break
        tab.press("Enter", 13, "\r")
        tab.wait("document.querySelector('#answer').innerText.includes('Latency')")
        said = tab.text("#answer")
        for word in ("Confidence\n90 %", "Largest at index\n1", "in this browser", "0.9"):
            assert word in said
        assert errors(tab) == []
        hosts = {
            re.match(r"\w+:(?://[^/]+)?", one["request"]["url"])[0] for one in tab.seen("Network.requestWillBeSent")
        }
        assert hosts <= {service.url.rstrip("/"), "data:", "about:"}
    assert service.asked == [("/models/digits/predict", None, f'{{"data": {json.dumps(ROW)}}}')]


def test_several_inputs_and_models_and_numbers_as_they_were_typed(browser, serve):
    service = serve(DIGITS, TWO)
    service.answer = (200, {"prediction": {"label": 3, "scores": [0.5, 0.5]}, "confidence": None})
    with browser.tab(service.url) as tab:
        tab.value(
            "{ const one = document.querySelector('#models'); one.value = 'two'; one.dispatchEvent(new Event('change')); }"
        )
        tab.click("#predict")
        tab.wait("document.querySelector('#answer').innerText.includes('Latency')")
        assert "label\n3" in tab.text("#answer")
        assert "Confidence" not in tab.text("#answer")
        tab.fill(".numbers input", "7")
        assert json.loads(tab.value("document.querySelector('#input-0').value"))[0] == 7
        tab.click("#reset")
        assert tab.value("document.querySelector('#input-0').value") == "[9007199254740993, 1, 2]"
        assert "curl 'http://" in tab.value("document.querySelector('#curl').textContent")
    assert service.asked[0][0] == "/models/two/predict"
    assert service.asked[0][2] == '{"data": {"ids": [9007199254740993, 1, 2], "mask": [true, false]}}'


def test_what_is_drawn_is_what_is_sent(browser, serve):
    service = serve(DIGITS)
    with browser.tab(service.url) as tab:
        tab.value(
            "[...document.querySelectorAll('.drawing button')].find((one) => one.textContent === 'Clear').click()"
        )
        assert not any(json.loads(tab.value("document.querySelector('textarea').value")))
        box = tab.value("JSON.stringify(document.querySelector('canvas').getBoundingClientRect())")
        box = json.loads(box)
        x, y = (box[key] + 2.5 * box[side] / 8 for key, side in (("x", "width"), ("y", "height")))
        for kind in ("mousePressed", "mouseReleased"):
            tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        drawn = json.loads(tab.value("document.querySelector('textarea').value"))
        assert {at for at, value in enumerate(drawn) if value} == {10, 17, 18, 19, 26}
        assert drawn[18] == max(ROW)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((422, {"error": "expected 64 numbers, got 63"}), "422 Unprocessable Entity: expected 64 numbers, got 63"),
        ((503, {"detail": [{"msg": "full"}]}), '503 Service Unavailable: [{"msg":"full"}]'),
    ],
)
def test_errors_are_told_as_text(browser, serve, answer, told):
    service = serve(DIGITS)
    service.answer = answer
    with browser.tab(service.url) as tab:
        tab.click("#predict")
        tab.wait("document.querySelector('#answer .error')")
        assert tab.text("#answer") == told
        tab.fill("textarea", "[1, 2")
        tab.click("#predict")
        tab.wait("document.querySelector('#answer').innerText.includes('input: this is not JSON')")
    assert len(service.asked) == 1


def test_a_token_is_asked_for_and_kept_in_memory_only(browser, serve):
    service = serve(DIGITS)
    service.token = "open-sesame"
    with browser.tab(service.url) as tab:
        tab.wait("!document.querySelector('#access').hidden")
        tab.wait("document.querySelector('#pill').textContent === 'asks for a token'")
        tab.fill("#token", "open-sesame")
        tab.click("#access button")
        tab.wait("document.querySelector('#pill').textContent === 'live'")
        tab.click("#predict")
        tab.wait("document.querySelector('#answer').innerText.includes('Latency')")
        assert tab.value("document.querySelector('#access').hidden")
        assert "sesame" not in tab.value("document.documentElement.outerHTML + document.querySelector('#token').value")
        assert tab.value("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    assert service.asked[0][1] == "Bearer open-sesame"


def test_behind_a_token_the_page_says_nothing_of_the_models(browser, serve):
    service = serve()
    service.token = "open-sesame"
    with browser.tab(service.url) as tab:
        tab.wait("!document.querySelector('#access').hidden")
        tab.fill("#token", "open-sesame")
        tab.click("#access button")
        tab.wait("document.querySelector('h1').textContent === 'two'")
        assert tab.value("document.querySelector('#input-1').value") == "[true,false]"


def test_the_charts_show_rates_and_stop_with_the_service(browser, serve):
    service = serve(DIGITS)
    with browser.tab(service.url) as tab:
        tab.wait("document.querySelector('.requests .now').textContent.startsWith('40')")
        now = {one: tab.text(f".{one} .now") for one in ("errors", "latency", "queue")}
        assert now == {"errors": "4 per second", "latency": "2.5 ms, p50", "queue": "5 waiting"}
        assert "3 rows a batch" in tab.text("#totals")
        assert "p99 7" in tab.text(".latency h3").lower()
        assert tab.value("document.querySelector('.queue svg').ariaLabel") == "Queue: 5 waiting"
        assert tab.value("document.querySelector('.queue path:not(.area)').getAttribute('d')").startswith("M")
        tab.click("#pause")
        tab.wait("document.querySelector('#pill').textContent === 'paused'")
        looks = service.looks
        tab.value("new Promise((done) => setTimeout(done, 1200))")
        assert service.looks == looks
        service.token = "another"
        tab.click("#pause")
        tab.wait("document.querySelector('#pill').textContent === 'asks for a token'")
        assert tab.text(".requests .now").startswith("\N{EN DASH}")


def test_nothing_that_a_model_is_called_is_executed(browser, serve, monkeypatch):
    evil = {
        **DIGITS,
        **dict.fromkeys(("name", "file", "format", "sha256", "loaded"), EVIL),
        "inputs": [{"name": EVIL, "dtype": EVIL, "shape": [EVIL, 2]}],
        "outputs": [{"name": EVIL, "dtype": EVIL, "shape": None}],
        "example": {EVIL: [1, 2]},
        "metrics": {EVIL: EVIL},
        "versions": {EVIL: EVIL},
    }
    service = serve(evil, {**evil, "name": f"other {EVIL}"})
    service.answer = (200, {"prediction": {EVIL: [1.0, 2.0], f"{EVIL}2": EVIL}, "confidence": None})
    with browser.tab(service.url) as tab:
        tab.click("#predict")
        tab.wait("document.querySelector('#answer').innerText.includes('Latency')")
        assert tab.value("document.querySelector('h1').textContent") == EVIL
        service.answer = (500, {"error": EVIL})
        tab.click("#predict")
        tab.wait("document.querySelector('#answer .error')")
        assert tab.value("document.querySelector('#answer .error').textContent").endswith(EVIL)
        assert tab.value("[window.hit ?? 0, document.scripts.length, document.images.length].join()") == "0,2,0"
        assert errors(tab) == [
            "Failed to load resource: the server responded with a status of 500 (Internal Server Error)"
        ]
    path, _, body = service.asked[0]
    assert unquote(path) == f"/models/{EVIL}/predict"
    assert json.loads(body) == {"data": [1, 2]}

    monkeypatch.setattr(page_module, "_MARKUP", "")  # seeded: the markup is not escaped
    seeded = serve(evil)
    with browser.tab(seeded.url) as tab:  # and so it ends the script, but the policy lets nothing else run
        assert tab.value("[window.hit ?? 0, document.images.length > 0].join()") == "0,true"
        assert any("Content Security Policy" in one for one in errors(tab))
    monkeypatch.setattr(page_module, "_policy", lambda style, script: "")
    bare = serve(evil)
    with browser.tab(bare.url) as tab:
        tab.wait("window.hit")


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_it_fits_and_everything_has_a_name(browser, serve, width):
    with browser.tab(serve(DIGITS, TWO).url, width=width) as tab:
        assert tab.value("document.scrollingElement.scrollWidth") <= width
        nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
        named = {"textbox", "button", "spinbutton", "combobox", "image", "img", "table", "region"}
        found = [(one["role"]["value"], one.get("name", {}).get("value")) for one in nodes if not one["ignored"]]
        assert {"textbox", "button", "spinbutton", "combobox"} <= {role for role, _ in found}
        assert [role for role, name in found if role in named - {"table"} and not name] == []


@pytest.mark.parametrize("token", [None, "open-sesame"])
def test_it_works_with_the_real_service(browser, serving, onnx, tmp_path, token):
    options = {}
    if token is not None:
        (tmp_path / "token").write_text(token)
        options["token_file"] = tmp_path / "token"
    server = serving({"small": onnx}, **options)
    with browser.tab(f"{server.url}/") as tab:
        if token is not None:
            tab.wait("!document.querySelector('#access').hidden")
            assert json.loads(tab.value("document.querySelector('#signature').textContent"))["models"] == []
            tab.fill("#token", token)
            tab.click("#access button")
        tab.wait("document.querySelector('h1').textContent === 'small'")
        sent = json.loads(tab.value("document.querySelector('#input-0').value"))
        tab.click("#predict")
        tab.wait("document.querySelector('#answer').innerText.includes('Latency')")
        answer = json.loads(tab.value("document.querySelector('#answer details pre').textContent"))
        assert answer["prediction"] == pytest.approx(unitrain.InferenceEngine(onnx).predict(sent))
        tab.wait("document.querySelector('#pill').textContent === 'live'")
        tab.wait("document.querySelector('.requests .now').textContent.match(/^[0-9]/)")
        tab.fill("#input-0", "[1, 2]")
        tab.click("#predict")
        tab.wait("document.querySelector('#answer .error')")
        assert tab.text("#answer").startswith("422")


def test_the_page_holds_all_that_it_needs():
    content = page([DIGITS], version="1.0")
    found = json.loads(
        re.search(r'<script type="application/json" id="signature">(.*?)</script>', content, re.DOTALL)[1]
    )
    assert found["models"][0] == {
        **DIGITS,
        "example": {"input": json.dumps(ROW)},
        "metrics": {"val/acc": 0.9721, "val/loss": "nan"},
    }
    assert not re.search(r"\son\w+=|src=|href=\"(?!data:|#)|url\(|@import|innerHTML\s*[+=]", content)


def test_text_can_be_read_on_its_background():
    """WCAG 2: at least 4.5 to 1 for text, in both schemes."""
    css = (page_module._FOLDER / "page.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    for scheme in (light, dark):
        colors = dict(re.findall(r"--([\w-]+): #(\w{6})", scheme))
        for over, texts in {
            **dict.fromkeys(("back", "card", "field"), ("text", "muted", "accent", "good", "bad")),
            "accent": ("on-accent",),
        }.items():
            for text in texts:
                bright, dim = sorted((_luminance(colors[one]) for one in (over, text)), reverse=True)
                assert (bright + 0.05) / (dim + 0.05) >= 4.5, (over, text)


def _luminance(color):
    parts = [int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
