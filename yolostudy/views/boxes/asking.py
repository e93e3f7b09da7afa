"""How the pictures of boxes call the functions of `yolostudy.boxes`, and check the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def ask(name: str, given: Callable | None, shape: Sequence[int] | None, *arguments):
    """The answer of `boxes.<name>`, or of `given`; `checked` where a shape is given."""
    if given is None:
        from ... import boxes

        given = getattr(boxes, name)
    answer = given(*arguments)
    return answer if shape is None else checked(name, answer, shape)


def checked(name: str, answer, shape: Sequence[int]):
    """An answer that can be drawn; -1 in the shape stands for any number.

    Errors: ValueError that names the function where its answer has another shape or is not finite.
    """
    found = tuple(getattr(answer, "shape", ()))
    if len(found) != len(shape) or any(wanted not in (-1, side) for wanted, side in zip(shape, found)):
        kind = f"shape {found}" if hasattr(answer, "shape") else type(answer).__name__
        raise ValueError(
            f"{name} gave {kind}, but {tuple(shape)} is needed here: check({f'boxes.{name}'!r}) says more."
        )
    if not bool(answer.detach().isfinite().all()):
        raise ValueError(f"{name} gave a value that is not finite: {answer.detach().flatten()[:8].tolist()}.")
    return answer
