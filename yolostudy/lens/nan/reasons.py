"""Why an operation gave NaN or infinity, in one sentence, where its name and its inputs tell."""

from __future__ import annotations

import math
import re

from .events import CONSTANT, OUTSIDE, UNINITIALISED, Event, Value

LIMITS = {"float16": 65504.0, "bfloat16": 3.39e38, "float32": 3.4028e38, "float64": 1.797e308}
ADVICE = {  # operations -> a test on the lowest and the highest input, and the sentence
    "log log2 log10": (
        lambda low, high: low <= 0,
        "The logarithm is -inf at 0 and NaN below it: clamp first, or use log_softmax, logsigmoid.",
    ),
    "log1p": (lambda low, high: low <= -1, "log1p is -inf at -1 and NaN below it."),
    "sqrt": (lambda low, high: low < 0, "There is no real root of a negative number."),
    "rsqrt reciprocal": (lambda low, high: low <= 0 <= high, "It divides by 0: add a small eps to the input."),
    "acos asin arccos arcsin": (
        lambda low, high: low < -1 or high > 1,
        "The input must lie between -1 and 1: clamp it first.",
    ),
    "exp exp2 expm1": (
        lambda low, high: high > 10,
        "The exponential overflows: subtract the maximum first, or compute with logarithms.",
    ),
    "pow float_power": (
        lambda low, high: low < 0,
        "A negative base has no fractional power: clamp it, or apply the missing sigmoid.",
    ),
    "mean std var nanmean median std_mean var_mean": (
        lambda low, high: True,
        "Too few values: a mean needs one, a standard deviation two.",
    ),
}
BACKWARD = {
    "Sqrt": "The slope of the root is infinite at 0: add a small eps under the root.",
    "Pow": "The slope of a power below 1 is infinite at 0: clamp the base away from 0.",
    "Log": "The slope of the logarithm is infinite at 0: clamp first. A torch.where after it does not help, because 0 "
    "· inf is NaN.",
    "Div": "The slope of a quotient is infinite where the divisor is 0: add a small eps to it.",
    "Acos": "The slope is infinite at -1 and 1: clamp a little inside.",
    "Asin": "The slope is infinite at -1 and 1: clamp a little inside.",
}


def reason(event: Event) -> str:
    """The sentence, or "" where the numbers do not tell."""
    if event.kind == UNINITIALISED:
        return (
            "torch.empty reserves memory and writes nothing to it; the microscope fills it with NaN, so that reading "
            "it shows. Use zeros."
        )
    if event.kind in (OUTSIDE, CONSTANT):
        return ""
    if event.phase == "backward":
        return _of_gradient(event)
    return _of_value(event)


def _of_value(event: Event) -> str:
    op, tensors = event.op.strip("_"), [value for value in event.inputs if value.shape or value.dtype != "number"]
    known = [value for value in event.inputs if not math.isnan(value.low)]
    if any(value.infs for value in event.inputs) and "softmax" in op:
        return "A row of nothing but -inf has no softmax: leave one place of it open, or skip the row."
    if op in ("div", "rdiv", "truediv", "rtruediv", "true_divide", "divide", "itruediv", "idiv"):
        divisor = known[-1] if len(known) > 1 and op[0] != "r" else next(iter(known), None)
        if divisor and divisor.low <= 0 <= divisor.high:
            return "It divides by 0: add a small eps to the divisor, or clamp it."
    if op in ("mul", "rmul", "matmul", "bmm", "linear", "mm", "einsum") and any(value.infs for value in event.inputs):
        return (
            "0 · inf is NaN: multiplying with a mask does not remove an infinity; select with torch.where before the "
            "infinity arises."
        )
    if op in ("sub", "rsub", "add", "radd", "sum", "cumsum") and any(value.infs for value in event.inputs):
        return "inf - inf is NaN."
    low = min((value.low for value in known[:1]), default=math.nan)
    high = max((value.high for value in known[:1]), default=math.nan)
    if op in ("rpow",) and low <= 0:
        return ADVICE["pow float_power"][1] if low < 0 else ""
    for names, (applies, sentence) in ADVICE.items():
        if op in names.split() and (applies(low, high) or ("mean" in names and not known)):
            return sentence
    if event.has_nan and op.endswith("norm") and "layer" not in op and low <= 0 <= high:
        return "It divides by a length of 0: give it an eps."
    return _of_overflow(event.outputs, tensors)


def _of_overflow(outputs: tuple[Value, ...], inputs: list[Value]) -> str:
    """For an operation that sums or multiplies: which dtype is too small for the result."""
    made = next((value for value in outputs if not value.finite), None)
    if made is None or made.dtype not in LIMITS:
        return ""
    largest = max((max(abs(value.low), abs(value.high)) for value in inputs if not math.isnan(value.low)), default=0.0)
    limit = LIMITS[made.dtype]
    if made.infs and largest > math.sqrt(limit) / 100:
        remedy = (
            "use bfloat16 or float32 here"
            if made.dtype == "float16"
            else "an earlier value has already grown too large"
        )
        return f"{made.dtype} ends at {limit:.4g} and the inputs reach {largest:.3g}: {remedy}."
    return ""


def _of_gradient(event: Event) -> str:
    family = re.match(r"[A-Z][a-z]+", event.op.split("(")[-1])
    sentence = BACKWARD.get(family.group() if family else "", "")
    if not sentence and any(value.dtype == "float16" for value in event.outputs):
        return (
            "float16 ends at 65504. A gradient scaler skips such a step and halves its scale, so one now and then is "
            "harmless."
        )
    return sentence
