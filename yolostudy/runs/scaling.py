"""What rate, weight decay and warm-up become for the number of steps and processes of a run."""

from __future__ import annotations

from dataclasses import replace

from .presets import Preset, PresetError


def full_accumulation(preset: Preset, processes: int = 1) -> int:
    """Batches in an update once the warm-up is over."""
    if not preset.nominal_batch:
        return preset.accumulate
    return max(1, round(preset.nominal_batch / (preset.batch * processes)))


def scaled(preset: Preset, epoch_steps: int, processes: int = 1) -> Preset:
    """The preset with the rate, weight decay and warm-up that the run uses.

    With N = `nominal_batch`, B = the images of a step over all processes and a = the accumulation
    after the warm-up:

        rate · B / N             if `scale_rate`
        weight decay · B · a / N  if N is given: its sum over an epoch then does not depend on B
        warm-up: at least `warmup_floor` steps, if that is given, but never more than the run has

    Without these keys the preset comes back as it is.

    Args:
        epoch_steps: steps in an epoch.
        processes: that train together.

    Errors: PresetError for keys that exclude each other, or that could have no effect.

    Source: YOLOv6 4.0 `yolov6/core/engine.py` (get_optimizer, train_before_loop). Its floor of 1,000
    steps has no upper bound, so a short run there never leaves the warm-up.
    """
    _check(preset)
    batch, accumulate = preset.batch * processes, full_accumulation(preset, processes)
    rate, weight_decay, warmup = preset.rate, preset.weight_decay, preset.warmup
    if preset.nominal_batch:
        if accumulate > epoch_steps:
            raise PresetError(
                f"nominal_batch={preset.nominal_batch} with {batch} images in a step is an update after every "
                f"{accumulate} steps, and an epoch has {epoch_steps}: there would be none. Give a nominal_batch of at "
                f"most {batch * epoch_steps}."
            )
        weight_decay *= batch * accumulate / preset.nominal_batch
        rate *= batch / preset.nominal_batch if preset.scale_rate else 1
    if preset.warmup_floor:
        warmup = min(max(warmup, preset.warmup_floor), preset.epochs * epoch_steps)
    if not warmup and (preset.warmup_momentum or preset.warmup_bias_rate):
        raise PresetError("warmup_momentum= and warmup_bias_rate= need a warm-up: give warmup= at least 1 step.")
    return replace(preset, rate=rate, weight_decay=weight_decay, warmup=warmup)


def _check(preset: Preset) -> None:
    if preset.warmup_floor and preset.minutes:
        raise PresetError(
            "warmup_floor= works with epochs= only: how many steps fit into minutes is not known before. Give epochs= "
            "instead of minutes=, or warmup= with the number of steps."
        )
    if preset.scale_rate and not preset.nominal_batch:
        raise PresetError("scale_rate=true needs nominal_batch=, the batch for which rate= is right, such as 64.")
    if preset.nominal_batch and preset.accumulate > 1:
        raise PresetError(
            f"accumulate={preset.accumulate} and nominal_batch={preset.nominal_batch} both set how many steps make an "
            "update. Give one of them."
        )
    if not 0 <= preset.warmup_momentum < 1:
        raise PresetError(f"warmup_momentum={preset.warmup_momentum}: this takes a number from 0 to below 1.")
    if preset.ema_attributes and not preset.ema:
        raise PresetError("ema_attributes= names what the averaged model gets, and ema=0 makes none. Give ema=.")
