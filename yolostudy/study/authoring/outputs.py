"""Outputs that a notebook may be stored with: the same on every machine and in every run."""

import os
import re
import sys

from ..course import Course

RAISES = {"raises-exception", "nbval-raises-exception"}  # tags of a cell that is meant to fail
PIXELS = ("image/png", "image/jpeg")  # base64: there is nothing to read, and a pattern would search it for minutes
PROGRESS = re.compile(r"[^\n]*\d+%\|[^\n]*\n?|[^\n]*\d+it \[[^\n]*\n?")  # what tqdm draws
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
# A path on one machine, or a package registry: neither belongs in a shipped output.
LEAK = re.compile(
    r"(?<![\w.~/])/(?:home|root|Users|tmp|work|mnt|opt|usr|var)/[\w./-]*|\b[A-Z]:\\[\w.\\-]+"
    r"|https?://[^\s/]*(?:pypi|pythonhosted|anaconda|conda|npmjs)[^\s\"']*|https?://[^\s\"']*/simple\b"
)


def clean(course: Course, output):
    """An output without what differs from run to run and from machine to machine.

    None if nothing is left.
    """
    if output.output_type == "stream":
        if output.name == "stderr":
            output.text = PROGRESS.sub("", output.text)
        output.text = without_paths(course, output.text)
        return output if output.text.strip() else None
    if output.output_type == "error":
        output.evalue = without_paths(course, output.evalue)
        output.traceback = [without_paths(course, line) for line in output.traceback]
        return output
    for kind, value in output.data.items():
        if kind == "application/vnd.jupyter.widget-view+json":
            output.data[kind] = {
                **value,
                "model_id": "",
            }  # JupyterLab hides a view without a model until the cell is run
        elif isinstance(value, str) and kind not in PIXELS:
            output.data[kind] = without_paths(course, value)
    return output


def without_paths(course: Course, text: str) -> str:
    """A text without paths and addresses of this machine."""
    text = text.replace(f"{course.root}{os.sep}", "").replace(str(course.root), ".")
    text = re.sub(r"[^\s\"'(]*/ipykernel_\d+/\d+\.py", "<cell>", text)
    text = re.sub(r"[^\s\"'(]*/site-packages/", "site-packages/", text)
    return ADDRESS.sub("0x...", text.replace(sys.base_prefix, "python"))


def text_of(output) -> str:
    """All that a reader sees of an output, but for pictures."""
    if output.output_type == "error":
        return "\n".join([output.evalue, *output.traceback])
    data = output.get("data", {})
    return "\n".join([output.get("text", ""), *(str(v) for kind, v in data.items() if kind not in PIXELS)])
