"""The widgets, each driven by its own control in a real browser: what it shows has to follow, and
nobody may complain.
"""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.browser.lab import errors, images

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1500)]

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
PATIENCE = 240_000  # milliseconds, of a machine that does other things too
CELLS = [
    "import json\nimport numpy as np\nfrom yolostudy import lens, study, views\nreference = study.package('reference')",
    "tree = reference.trace.record(json.loads, '[1, 2]', packages=('json',))\n"
    "lens.CallTree(tree, reference.trace.path_between(tree, 'loads', 'JSONDecoder.raw_decode'), depth=1)",
    "pictures = [np.full((60, 90, 3), 235, np.uint8)] * 2\n"
    "truths = [np.array([[0.0, 5, 10, 30, 40], [0, 50, 10, 80, 40]]), np.array([[0.0, 5, 5, 30, 30]])]\n"
    "found = [np.array([[6.0, 11, 31, 41, 0.9, 0], [51, 9, 79, 40, 0.4, 0]]), np.array([[40.0, 30, 60, 50, 0.6, 0]])]\n"
    "views.ThresholdBench(reference.metrics.evaluate(found, truths, ['aircraft']), pictures, found, truths)",
    "step = np.arange(1.0, 41)\n"
    "columns = {'step': step, 'loss': 9 / step + step % 2, 'lr': np.full(40, 0.01)}\n"
    "views.RunBench({'a run': columns, 'another': columns | {'loss': 5 + step % 3}})",
    "views.PoolBench(reference.blocks.SPPF(4, 4), channels=4)",
    "live = views.RunTape('live')\nfor loss in (9.0, 7.0, 6.0):\n    live.update(loss, 0.01, last=True)",
]

# A callback that raises leaves no error output: the kernel says it as a message that belongs to no
# cell, or on stderr.
LISTEN = """() => {
  const context = window.jupyterapp.shell.currentWidget.context.sessionContext;
  window.complaints = [];
  context.iopubMessage.connect((_, message) => {
    const {msg_type} = message.header, {content} = message;
    if (msg_type === "error" || (msg_type === "stream" && content.name === "stderr")) window.complaints.push(JSON.stringify(content));
  });
}"""
CHANGED = "([image, before]) => image.src !== before && image.complete && image.naturalWidth > 0"
SHOWS = "([select, text]) => Array.from(select.options, option => option.text).some(row => row.includes(text))"


IN_THE_KERNEL = """code => window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.requestExecute({code}).done"""


def after(page, picture, act) -> None:
    """Wait until the picture is another one than before the act."""
    before = picture.get_attribute("src")
    act()
    page.wait_for_function(CHANGED, arg=[picture.element_handle(), before], timeout=PATIENCE)


class Widget:
    """A widget of the page: the box around the slider of that name."""

    def __init__(self, page, control: str):
        self.page = page
        self.box = (
            page.locator(".widget-vbox")
            .filter(has=page.locator(".widget-label").get_by_text(control, exact=True))
            .first
        )
        self.box.scroll_into_view_if_needed()

    def after(self, act) -> None:
        """As `after`, and no line under the picture says that it could not be drawn."""
        after(self.page, self.box.locator("img"), act)
        assert self.box.get_by_text("Not drawn.").count() == 0

    def slide(self, control: str, key: str, times: int = 1) -> str:
        """Move a slider by the keys of a keyboard. Returns what stands beside it then."""
        row = self.box.locator(".widget-hslider").filter(
            has=self.page.locator(".widget-label").get_by_text(control, exact=True)
        )
        handle = row.locator(".noUi-handle")
        self.after(lambda: [handle.press(key) for _ in range(times)])
        return row.locator(".widget-readout").inner_text()


def test_what_is_shown_follows_the_controls(lab, page):
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    nbformat.write(
        new_notebook(cells=[new_code_cell(source) for source in CELLS], metadata=KERNEL), lab.folder / "widgets.ipynb"
    )
    outputs = lab.run(page, "widgets.ipynb")
    assert errors(outputs) == [] and images(outputs) == len(CELLS) - 1  # the live curves are drawn in one place
    page.evaluate(LISTEN)

    # the tree of calls: search, read the source, unfold what was found, close everything
    search = page.get_by_placeholder("search: ")
    search.scroll_into_view_if_needed()
    tree = page.locator(".widget-vbox").filter(has=search).first
    rows = tree.locator("select")

    def wait(text: str) -> list[str]:
        page.wait_for_function(SHOWS, arg=[rows.element_handle(), text], timeout=PATIENCE)
        return rows.locator("option").all_inner_texts()

    search.fill("raw_decode")
    found = wait("●")
    assert len(found) == 4 and "raw_decode" in found[-1]
    tree.get_by_text("1 found").wait_for(timeout=PATIENCE)
    tree.locator("pre", has_text="def raw_decode(self").wait_for(timeout=PATIENCE)
    search.fill("no such name")
    tree.get_by_text("Nothing has that name.").wait_for(timeout=PATIENCE)
    search.fill("JSONDecoder.decode")
    wait("●")
    tree.get_by_role("button", name="open / close").click()
    page.wait_for_function("box => box.value === ''", arg=search.element_handle(), timeout=PATIENCE)
    assert "raw_decode" in wait("raw_decode")[-1]
    rows.select_option(index=1)
    tree.locator("pre", has_text="def loads(s").wait_for(timeout=PATIENCE)
    tree.get_by_role("button", name="open / close").click()
    wait("▸ loads".replace(" ", "\u00a0"))
    assert rows.locator("option").count() == 2

    # precision and recall at a threshold
    widget = Widget(page, "threshold")
    assert widget.slide("threshold", "ArrowRight", 30) == "0.55"
    assert widget.slide("picture", "ArrowRight") == "1"

    # loss curves
    widget = Widget(page, "smoothing")
    assert widget.slide("smoothing", "Home") == "0.00"
    widget.after(widget.box.get_by_label("logarithmic loss").click)

    # pools of stage 2
    widget = Widget(page, "pools")
    assert widget.slide("pools", "ArrowLeft") == "2"
    assert widget.slide("row", "Home") == "0"

    # curves that are drawn again while a run goes on
    curves = page.locator(".jp-RenderedImage img").last
    curves.scroll_into_view_if_needed()
    after(page, curves, lambda: page.evaluate(IN_THE_KERNEL, "live.update(1.0, 0.01, last=True)"))

    assert page.evaluate("window.complaints") == []
    assert said == []
