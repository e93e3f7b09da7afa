import os
import shutil

import pytest

from tests.browser import lab as jupyterlab


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine, so nothing was tried in a browser: install chromium")
    return found


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    """One server for the session, on an empty folder, with the environment of a learner who set
    nothing.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("YOLOSTUDY_USE", "MPLBACKEND")}
    environment["YOLOSTUDY_HOME"] = str(tmp_path_factory.mktemp("home"))
    with jupyterlab.start(tmp_path_factory.mktemp("course"), tmp_path_factory.mktemp("jupyter"), environment) as server:
        yield server


@pytest.fixture
def page(chromium, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        profile, size = tmp_path / "profile", {"width": 1280, "height": 1000}
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium, args=jupyterlab.CHROMIUM_FLAGS, headless=True, viewport=size
        )
        yield browser.pages[0]
        browser.close()
