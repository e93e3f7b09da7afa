"""`python -m yolostudy.command`, which is how `torchrun` calls the command."""

from . import main

if __name__ == "__main__":
    raise SystemExit(main())
