"""Which keys about evaluation and the last epochs cannot have their effect together."""

from __future__ import annotations

from dataclasses import fields

EVALUATION = ("eval_interval", "heavy_eval_range", "eval_final_only")
LAST_EPOCHS = ("plain_epochs", "keep_last")
STRONG = ("mosaic", "degrees", "scale", "translate")  # what plain_epochs turns off


class PresetError(ValueError):
    """A tag, key or value that no preset knows, or a combination that cannot be trained."""


def check_epochs(preset) -> None:
    """Refuse a key about evaluation or the last epochs that could not have its effect.

    Args:
        preset: a `presets.Preset`.

    Errors: PresetError, which says what to change.
    """
    for key in ("eval_interval", "heavy_eval_range", *LAST_EPOCHS, "batch_pictures"):
        value, least = getattr(preset, key), int(key == "eval_interval")
        if value < least:
            raise PresetError(f"{key}={value}: this takes a whole number from {least}.")
        if value > preset.epochs and value > least and not preset.minutes:
            raise PresetError(f"{key}={value}: the run has only epochs={preset.epochs}. Give {preset.epochs} or less.")
    for wrong, message in _conflicts(preset):
        if wrong:
            raise PresetError(message)


def _conflicts(preset) -> list[tuple[object, str]]:
    """Each pair of keys that `check_epochs` refuses: whether the preset has it, and what to say."""
    default = {field.name: field.default for field in fields(preset)}

    def given(*keys: str) -> str:
        return ", ".join(f"{key}={getattr(preset, key)}" for key in keys if getattr(preset, key) != default[key])

    spaced, last = given(*EVALUATION), given(*LAST_EPOCHS)
    counted = given(*EVALUATION, *LAST_EPOCHS)
    return [
        (
            counted and preset.minutes,
            f"{counted}: this counts epochs, and minutes={preset.minutes:g} ends the run by the clock. Give epochs=.",
        ),
        (
            preset.eval_final_only and given("eval_interval", "heavy_eval_range"),
            f"{spaced}: with eval_final_only no other epoch is validated. Leave it out, or leave the others out.",
        ),
        (
            preset.heavy_eval_range and preset.eval_interval <= 3,
            f"heavy_eval_range={preset.heavy_eval_range} shortens the interval to 3, and eval_interval="
            f"{preset.eval_interval} is not longer. Leave it out, or give a longer eval_interval.",
        ),
        (
            spaced and preset.validate_seconds,
            f"{spaced} counts epochs, and validate_seconds={preset.validate_seconds:g} may skip some. Give one.",
        ),
        (
            preset.patience and (preset.eval_final_only or last),
            f"patience={preset.patience} may end the run before its last epochs, for which "
            f"{given('eval_final_only', *LAST_EPOCHS)} is meant. Leave one out.",
        ),
        (
            preset.eval_final_only and preset.schedule == "plateau",
            "eval_final_only=True: schedule=plateau follows the validations, and there is only one, after the last "
            "step. Take schedule=cosine.",
        ),
        (
            preset.plain_epochs and not given(*STRONG),
            f"plain_epochs={preset.plain_epochs}: there is nothing to turn off. Give one of {', '.join(STRONG)}.",
        ),
        (
            preset.batch_pictures and not preset.tensorboard,
            f"batch_pictures={preset.batch_pictures}: pictures go to TensorBoard. Add tensorboard=true.",
        ),
    ]
