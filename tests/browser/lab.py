"""JupyterLab for a test: a private server on a folder, and a notebook in it run by Chromium as a
person would run it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import warm

SETTINGS = Path(__file__).parents[2] / "course" / "lab"  # those of `make lab`
CHROMIUM_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]

# The status bar says idle while the kernel still connects, so the connection is asked as well.
KERNEL_IS_READY = """() => {
  const session = window.jupyterapp?.shell.currentWidget?.context?.sessionContext;
  const kernel = session?.session?.kernel;
  return !!kernel && session.isReady && kernel.connectionStatus === "connected" && kernel.status === "idle";
}"""
RUN_ALL_CELLS = """async (seconds) => {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`the cells still run after ${seconds} s`)), seconds * 1000));
  await Promise.race([window.jupyterapp.commands.execute("notebook:run-all-cells"), late]);
  return window.jupyterapp.shell.currentWidget.content.model.toJSON();
}"""


@dataclass(frozen=True)
class Lab:
    """A JupyterLab server: its address, its token and the folder that it shows."""

    address: str
    token: str
    folder: Path

    def run(self, page, notebook: str, seconds: float = 120.0) -> list[dict]:
        """Open `notebook` in the Playwright `page`, run all its cells and return the outputs that
        its model holds, in nbformat's form.
        """
        page.goto(f"{self.address}lab/tree/{notebook}?reset&token={self.token}")
        page.wait_for_function(KERNEL_IS_READY, timeout=300_000)
        model = page.evaluate(RUN_ALL_CELLS, seconds)
        return [output for cell in model["cells"] for output in cell.get("outputs", [])]


@contextmanager
def start(folder: Path, private: Path, environment: dict[str, str] | None = None, seconds: float = 90.0):
    """Serve `folder`; settings, workspaces, kernels' files and the log go to `private`.

    Yields a Lab; the server ends with the block.
    """
    homes = [
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "IPYTHONDIR",
    ]
    for name in homes:
        (private / name.lower()).mkdir(parents=True)
    if warm.FORKS:
        warm.kernel(private / "jupyter_path")
    settings = private / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    token = secrets.token_hex(16)
    command = [
        *warm.words("-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
        f"--ServerApp.root_dir={folder}",
        f"--ServerApp.port={_free_port()}",  # two servers that start at once would both try 8888
        *(
            f"--IdentityProvider.token={token}",
            f"--LabApp.app_settings_dir={SETTINGS}",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly",
        ),
    ]
    with open(private / "server.log", "w") as log:
        inherited = os.environ if environment is None else environment
        own = {name: str(private / name.lower()) for name in [*homes, "JUPYTER_PATH"]}
        server = subprocess.Popen(command, env={**inherited, **own}, stdout=log, stderr=log, cwd=folder)
    try:
        yield Lab(_address(server, private, seconds), token, folder)
    finally:
        server.terminate()  # Jupyter ends its kernels on this
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _address(server: subprocess.Popen, private: Path, seconds: float) -> str:
    """The address that the server chose: it writes it to its runtime folder once it listens."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        for file in (private / "jupyter_runtime_dir").glob("jpserver-*.json"):
            try:
                return json.loads(file.read_text())["url"]
            except json.JSONDecodeError:  # it is being written
                pass
        time.sleep(0.1)
    raise RuntimeError("JupyterLab did not start:\n" + (private / "server.log").read_text()[-3000:])


def text(outputs: list[dict]) -> str:
    """All that was printed, one stream after the other."""
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


def errors(outputs: list[dict]) -> list[str]:
    return [f"{output['ename']}: {output['evalue']}" for output in outputs if output["output_type"] == "error"]


def images(outputs: list[dict]) -> int:
    """How many outputs hold a picture."""
    return sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs)
