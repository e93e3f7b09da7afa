"""`python -m yolostudy.study.grading` is `yolostudy grade`."""

from .main import main

if __name__ == "__main__":
    raise SystemExit(main())
