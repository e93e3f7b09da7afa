"""Read by every kernel of this course's .venv: `make setup` copies it there.

Fill cells are judged from the first one on, also after a restart and in editors that start the kernel
themselves. Not listed under `extensions`: the notebooks' own `%load_ext yolostudy` would then answer
that it is loaded already, where a second load says nothing and is harmless.
"""

c = get_config()  # noqa: F821 - IPython gives it
c.InteractiveShellApp.exec_lines = ['__import__("yolostudy").load_ipython_extension(get_ipython())']
