"""Real monitoring servers for tests, from Debian's packages, and servers that hang or answer errors."""

from __future__ import annotations

import csv
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.servers import answers, free_port, missing

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-pushgateway": "prometheus-pushgateway",
    "collectd": "collectd-core",
}


def program(name):
    """Return a program; without it the test is skipped, or fails where CI has to bring it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    return found or missing(f"{name} is not installed: apt-get install {PACKAGES[name]}")


@contextmanager
def _running(command, folder, ready):
    """Run a server in the foreground until the end of the block; nothing of it remains."""
    with (Path(folder) / f"{Path(command[0]).name}.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            eventually(lambda: server.poll() is not None or ready(), seconds=30)
            assert server.poll() is None, Path(log.name).read_text()
            yield server
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def eventually(condition, seconds=15):
    """Return the first true value of ``condition``."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def get(url, timeout=5):
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read().decode()


class Prometheus:
    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, query):
        """Return the samples of an instant query: the labels, and the value as Prometheus writes it."""
        found = json.loads(get(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
        return [(one["metric"], one["value"][1]) for one in found["data"]["result"]]

    def values(self, query):
        """Return the values by name."""
        return {labels["__name__"]: float(value) for labels, value in self.ask(query)}


@contextmanager
def running_prometheus(folder, targets):
    """Yield a Prometheus that scrapes ``targets`` five times a second; it begins after some five seconds."""
    port, config = free_port(), Path(folder) / "prometheus.json"
    scraped = {"job_name": "here", "honor_labels": True, "static_configs": [{"targets": targets}]}
    config.write_text(json.dumps({"global": {"scrape_interval": "200ms"}, "scrape_configs": [scraped]}))  # JSON is YAML
    command = [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={Path(folder) / 'data'}"]
    server = Prometheus(port)
    with _running(
        [*command, f"--web.listen-address=127.0.0.1:{port}"], folder, lambda: answers(f"{server.url}/-/ready")
    ):
        yield server


@contextmanager
def running_pushgateway(folder):
    """Yield the URL of a Pushgateway."""
    url = f"127.0.0.1:{free_port()}"
    kept = Path(folder) / "pushed"  # Debian's default is one file for all
    command = [program("prometheus-pushgateway"), f"--web.listen-address={url}", f"--persistence.file={kept}"]
    with _running(command, folder, lambda: answers(f"http://{url}/-/ready")):
        yield f"http://{url}"


class Collectd:
    """collectd with its StatsD plugin, which writes a CSV file a value."""

    def __init__(self, folder, port):
        self.folder, self.address = Path(folder), f"127.0.0.1:{port}"

    def gauges(self):
        """Return the newest value of each gauge."""
        found = {}
        for path in sorted((self.folder / "csv").rglob("gauge-*")):
            rows = list(csv.reader(path.read_text().splitlines()))
            if len(rows) > 1:
                found[path.name.removeprefix("gauge-")[: -len("-2000-01-01")]] = float(rows[-1][1])
        return found


@contextmanager
def running_collectd(folder):
    """Yield a StatsD server."""
    folder, port = Path(folder), free_port()
    config = folder / "collectd.conf"
    config.write_text(
        f'Hostname "here"\nFQDNLookup false\nInterval 0.2\nBaseDir "{folder}"\nPIDFile "{folder}/pid"\n'
        f'PluginDir "/usr/lib/collectd"\nTypesDB "/usr/share/collectd/types.db"\n'
        f"LoadPlugin logfile\n<Plugin logfile>\nLogLevel info\nFile STDOUT\n</Plugin>\n"
        f'LoadPlugin statsd\n<Plugin statsd>\nHost "127.0.0.1"\nPort "{port}"\nDeleteGauges false\n</Plugin>\n'
        f'LoadPlugin csv\n<Plugin csv>\nDataDir "{folder}/csv"\nStoreRates false\n</Plugin>\n'
    )
    server = Collectd(folder, port)

    def ready():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.sendto(b"probe:1|g", ("127.0.0.1", port))
        return "probe" in server.gauges()

    with _running([program("collectd"), "-f", "-C", str(config)], folder, ready):
        yield server


@contextmanager
def hanging():
    """Yield the address of a server that accepts connections, and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def answering(status, seen=None, port=0):
    """Yield the address of a server that answers each request with ``status``, and keeps what it got in ``seen``."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if seen is not None:
                seen.append((self.command, self.path, dict(self.headers), body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_DELETE = do_PUT

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
