"""What all words of the command share: adding one, `key=value`, numbers, the edition to run on."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence

KEY_VALUE = "key=value …"  # how help writes them


def add_word(
    words: argparse._SubParsersAction, name: str, about: str, run: Callable[[argparse.Namespace], int] | None = None
) -> argparse.ArgumentParser:
    """A new word of the command, with one sentence for `--help` here and there.

    Args:
        run: what the word does: takes the options, returns the exit status. None where the word
            only leads to others.
    """
    word = words.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    if run:
        word.set_defaults(func=run)
    return word


def split_settings(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The `key=value` words as a table, and the other words.

    The name of an existing file counts as a file, even with an equals sign in it.
    """
    pairs = [word.partition("=") for word in words if "=" in word and not os.path.exists(word)]
    return {key: value for key, _, value in pairs}, [word for word in words if "=" not in word or os.path.exists(word)]


def read_settings(word: str, words: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """A table of `key=value` words.

    Args:
        word: of the command, for the message.
        keys: the known ones, each with an example, such as "seed=0".

    Errors: ValueError for a word that is no `key=value`, and for an unknown key.
    """
    settings, rest = split_settings(words)
    if rest:
        raise ValueError(f"{word}: {rest[0]!r} is not key=value. Known keys: {' '.join(keys)}.")
    refuse_unknown(word, settings, keys)
    return settings


def refuse_unknown(word: str, settings: dict[str, str], keys: Sequence[str]) -> None:
    """Raise ValueError for a key that is not among `keys`; see `read_settings`."""
    known = {key.partition("=")[0] for key in keys}
    if unknown := sorted(settings.keys() - known):
        raise ValueError(f"{word}: unknown key {unknown[0]!r}. Known keys: {' '.join(keys) or 'none'}.")


def number(key: str, text: str, kind: type):
    """Read the number that was typed for a key."""
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{key}={text}: this takes a {'whole ' if kind is int else ''}number.") from None


def settle_edition() -> None:
    """Run on hybrid unless the user chose another edition, and print which edition is in use."""
    import yolostudy

    if yolostudy.using() == "mine" and not os.environ.get("YOLOSTUDY_USE"):
        yolostudy.use("hybrid")
    if is_first_process():
        print(yolostudy.describe())


def is_first_process() -> bool:
    """Whether this process prints: under torchrun only the first one does."""
    return os.environ.get("RANK", "0") == "0"
