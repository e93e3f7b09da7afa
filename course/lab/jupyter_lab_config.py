"""How `make lab` starts JupyterLab.

The file browser shows what a learner opens. What the notebooks are built from, the probes and the museum are
shown too by `make lab LAB_FLAGS=--ContentsManager.hide_globs=__pycache__`.
"""

c = get_config()  # noqa: F821 - Jupyter gives it
c.ContentsManager.hide_globs = [
    *("__pycache__", "*.pyc", "*~", ".DS_Store"),
    *("exercises", "source", "lab", "museum", "results", "pictures", "tests", "course.toml", "INSTRUCTORS.md"),
    *("Makefile", "pyproject.toml", "environment.yml", "requirements.lock", "LICENSE"),
]
