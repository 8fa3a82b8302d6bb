"""Pages in headless Chromium: a test's script acts in the page, and its answer comes back as JSON."""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update"),
    # nothing but this machine can be reached
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1200,1600",
)
_PATIENCE = 60
# appended to the page: waits until the page is ready, then runs the test's script
_DRIVER = """
<script>
(async () => {
  const next = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const move = async (id, value) => {
    const slider = document.getElementById(id);
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await next();
  };
  const press = async (id) => { document.getElementById(id).click(); await next(); };
  const pixels = (selector) => [...document.querySelectorAll(selector)].map((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const text = data.reduce((all, v) => all + String.fromCharCode(v), "");
    return { width: canvas.width, height: canvas.height, data: btoa(text) };
  });
  let answer;
  try {
    while (!document.body.dataset.ready) await new Promise((done) => setTimeout(done, 20));
    answer = { value: await (async () => { SCRIPT })() };
  } catch (error) {
    answer = { error: String(error.stack ?? error) };
  }
  await fetch("/answer", { method: "POST", body: JSON.stringify(answer) });
})();
</script>"""


def chromium() -> str:
    """The browser; the test is skipped, with the reason, where there is none."""
    named = os.environ.get("CHROME")
    found = named if named else next((path for path in map(shutil.which, _NAMES) if path), None)
    if found is None:
        pytest.skip(f"no browser is here: expected one of {', '.join(_NAMES)}, or its path in the variable CHROME")
    return found


def ask(page: str, script: str, address: str = "") -> Any:
    """What a script (the body of an async function, with `move`, `press`, `pixels` and `next`) returns in a page."""
    browser = chromium()
    answers: queue.Queue[str] = queue.Queue()
    text = page.replace("</body>", _DRIVER.replace("SCRIPT", script) + "</body>").encode()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            # a browser may have changed its mind
            with contextlib.suppress(ConnectionError):
                self.wfile.write(text if found else b"")

        def do_POST(self) -> None:
            answers.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is its own."""

    # Chromium may still write to its profile when it is told to end
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        command = [browser, *_OPTIONS, f"--user-data-dir={folder}", f"http://127.0.0.1:{site.server_port}/{address}"]
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        try:
            answer = json.loads(answers.get(timeout=_PATIENCE))
        except queue.Empty:
            pytest.fail(
                f"no answer from the page within {_PATIENCE} s: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
            )
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            site.shutdown()
    assert "error" not in answer, answer.get("error")
    return answer["value"]
