"""Read by every kernel of this course's .venv: `make setup` copies it there.

Fill cells are judged from the first one on, also after a restart and in editors that start the kernel themselves.
"""

c = get_config()  # noqa: F821 - IPython gives it
c.InteractiveShellApp.extensions = ["yolostudy"]
