"""`python -m yolostudy.study.authoring` is `yolostudy author`."""

from .main import main

if __name__ == "__main__":
    raise SystemExit(main())
