"""Break every marked region of the reference in every small way; the probes must notice.

    python -m tests.mutation                  all exercises, and the table
    python -m tests.mutation boxes            one module, or one exercise; survivors are listed

A mutant that no probe can tell from the reference shows a gap in the probes, or it means the same
as the reference. tests/mutation_equivalents.toml lists both kinds, each with its reason. The second
kind does not count.
"""

from __future__ import annotations

import ast
import copy
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

EQUIVALENTS = Path(__file__).with_name("mutation_equivalents.toml")
GAP = "not told apart"  # the reason of a mutant begins so if the mutant is wrong and passes
WANTED = 0.97  # fraction of the mutants, without equivalent ones, that must be caught
OPERATORS = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Mult, ast.Div),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
}
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
TWINS = {
    "minimum": "maximum",
    "maximum": "minimum",
    "min": "max",
    "max": "min",
    "amax": "amin",
    "sum": "mean",
    "mean": "sum",
    "ceil": "floor",
}
TWINS |= {
    "zeros": "ones",
    "ones": "zeros",
    "zeros_like": "ones_like",
    "ones_like": "zeros_like",
    "argmax": "argmin",
    "any": "all",
}
TWINS |= {
    "sigmoid": "tanh",
    "softmax": "sigmoid",
    "log_softmax": "softmax",
    "square": "abs",
    "sum_over_processes": "len",
}
LIBRARIES = {"torch", "F", "nn", "math", "self"}  # `torch.cat(...)` is no method of a value, so no mutant keeps `torch`


class Mutant(NamedTuple):
    line: int  # of the definition's text
    change: str  # before -> after
    text: str  # the whole definition, mutated


def mutants(text: str, regions: list[tuple[int, int]]) -> Iterator[Mutant]:
    """Every small change to the regions (first and last line) of a definition's text."""
    tree = ast.parse(text)
    places = [n for n in ast.walk(tree) if any(a < getattr(n, "lineno", 0) and n.end_lineno < b for a, b in regions)]
    seen = {ast.unparse(tree)}
    for place in places:
        for replacement in _changes(place):
            mutated = _replaced(tree, place, replacement)
            try:
                whole = ast.unparse(ast.fix_missing_locations(mutated))
                compile(whole, "mutant", "exec")
            except (SyntaxError, ValueError, TypeError):
                continue
            if whole not in seen:
                seen.add(whole)
                after = "(dropped)" if isinstance(replacement, ast.Pass) else ast.unparse(replacement)
                around = "" if isinstance(place, ast.stmt) else f"  in  {_one_line(_statement(places, place))}"
                yield Mutant(place.lineno, f"{_one_line(ast.unparse(place))} -> {_one_line(after)}{around}", whole)


def _statement(places: list[ast.AST], place: ast.AST) -> str:
    """The statement around a place, without the body that it may have."""
    around = [n for n in places if isinstance(n, ast.stmt) and any(inner is place for inner in ast.walk(n))]
    return ast.unparse(min(around, key=lambda n: n.end_lineno - n.lineno)).partition("\n")[0] if around else ""


def _replaced(tree: ast.AST, place: ast.AST, replacement: ast.AST) -> ast.AST:
    marker = "_the_place_"
    setattr(place, marker, True)
    mutated = copy.deepcopy(tree)
    delattr(place, marker)

    class Put(ast.NodeTransformer):
        def visit(self, node):
            return replacement if getattr(node, marker, False) else super().visit(node)

    return Put().visit(mutated)


def _changed(node: ast.AST, **fields) -> ast.AST:
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.BinOp():
            yield from (_changed(node, op=other()) for other in OPERATORS.get(type(node.op), ()))
            if isinstance(node.op, (ast.Sub, ast.Div, ast.FloorDiv, ast.MatMult)):
                yield _changed(node, left=node.right, right=node.left)
            yield from (node.left, node.right)
        case ast.AugAssign():
            yield from (_changed(node, op=other()) for other in OPERATORS.get(type(node.op), ()))
            yield ast.Pass()
        case ast.Compare(ops=[op]):
            yield from (_changed(node, ops=[other()]) for other in COMPARISONS.get(type(op), ()))
        case ast.BoolOp():
            yield _changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            yield from node.values
        case ast.UnaryOp():
            yield node.operand
        case ast.IfExp():
            yield from (node.body, node.orelse)
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
        case ast.Constant(value=float()):
            yield from (ast.Constant(node.value * 1.5), ast.Constant(0.0))
        case ast.Constant(value=str()) if node.value in TWINS:
            yield ast.Constant(TWINS[node.value])
        case ast.Attribute(ctx=ast.Load()) if node.attr in TWINS:
            yield _changed(node, attr=TWINS[node.attr])
        case ast.Call():
            yield from _changed_calls(node)
        case ast.Return(value=value) if value is not None:
            yield ast.Return(ast.Constant(None))
            if isinstance(value, ast.Tuple) and len(value.elts) > 1:
                yield ast.Return(_changed(value, elts=[*value.elts[1:], value.elts[0]]))
        case ast.Assign() | ast.AnnAssign() | ast.Expr():
            yield ast.Pass()
        case ast.If():
            yield from (_changed(node, test=ast.Constant(True)), _changed(node, test=ast.Constant(False)))
        case ast.With():
            yield ast.If(ast.Constant(True), node.body, [])
        case ast.For() | ast.While():
            yield ast.Pass()
            yield _changed(node, body=[*node.body, ast.Break()])
        case ast.Starred():
            yield node.value


def _changed_calls(node: ast.Call) -> Iterator[ast.AST]:
    """The call without a keyword, with two arguments exchanged, without its last, or left out."""
    yield from (_changed(node, keywords=[k for k in node.keywords if k is not dropped]) for dropped in node.keywords)
    for place in range(len(node.args) - 1):
        args = [*node.args]
        args[place : place + 2] = reversed(args[place : place + 2])
        yield _changed(node, args=args)
    if len(node.args) > 1:
        yield _changed(node, args=node.args[:-1])
    root = node.func
    while isinstance(root, ast.Attribute):
        root = root.value
    of_a_library = isinstance(root, ast.Name) and root.id in LIBRARIES
    if isinstance(node.func, ast.Attribute) and not (of_a_library and root is node.func.value):
        yield node.func.value
    elif len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], (ast.Starred, ast.GeneratorExp)):
        yield node.args[0]


def _one_line(text: str, width: int = 90) -> str:
    flat = re.sub(r"\s+", " ", text)
    return flat if len(flat) <= width else flat[: width - 1] + "…"


# ---- judging them --------------------------------------------------------------------------------


def survivors(name: str) -> tuple[str, int, list[Mutant]]:
    """Run an exercise's probes on all of its mutants.

    Returns its name, the number of mutants, and those that every probe takes for the reference.
    """
    from yolostudy.study import edition_in_use
    from yolostudy.study.edition import Edition
    from yolostudy.study.exercise import Misconception
    from yolostudy.study.isolation import Stopped
    from yolostudy.study.judge import Judge, same
    from yolostudy.study.regions import find_regions

    judge = Judge(edition_in_use.course(), patience=3.0)
    exercise, solution = judge.exercise(name), judge.reference.find(name)
    regions = [(r.begin, r.end) for r in find_regions(solution.text, solution.file)]
    right = judge.reference_seen(exercise)
    found, count = [], 0
    for mutant in mutants(solution.text, regions):
        count += 1
        edition: Edition = Misconception("a mutant", ((solution.text, mutant.text + "\n"),), "").edition(
            judge.reference, name
        )
        try:
            seen = judge.look(exercise, edition)
        except Stopped:
            continue  # a loop that never ends is noticed
        if all(same(*item) for item in zip(exercise.probes, right, seen)):
            found.append(mutant)
    return name, count, found


def equivalents() -> dict[str, dict[str, str]]:
    """Exercise -> change, as the table lists it -> the reason."""
    return tomllib.loads(EQUIVALENTS.read_text("utf-8")) if EQUIVALENTS.exists() else {}


def main(word: str = "") -> int:
    from yolostudy.study import edition_in_use
    from yolostudy.study.judge import Judge

    names = [exercise.name for exercise in Judge(edition_in_use.course()).select(word)]
    known, total, missed, same_meaning, left = equivalents(), 0, 0, 0, []
    print(f"{'exercise':<32}{'mutants':>8}{'equivalent':>12}{'caught':>8}{'survive':>9}{'share':>9}")
    with ProcessPoolExecutor(max_workers=int(os.environ.get("WORKERS", "2"))) as pool:
        for name, count, found in pool.map(survivors, names):
            reasons = known.get(name, {})
            equal = [m for m in found if not reasons.get(m.change, GAP).startswith(GAP)]
            holes = [m for m in found if m not in equal]
            real = count - len(equal)
            print(
                f"{name:<32}{count:>8}{len(equal):>12}{real - len(holes):>8}{len(holes):>9}{(real - len(holes)) / real:>9.1%}",
                flush=True,
            )
            total, missed, same_meaning = total + real, missed + len(holes), same_meaning + len(equal)
            left += [(name, m._replace(text=reasons.get(m.change, ""))) for m in holes]
            stale = reasons.keys() - {m.change for m in found}
            left += [
                (name, Mutant(0, f"listed as equivalent, and it is no survivor: {change}", ""))
                for change in sorted(stale)
            ]
    share = (total - missed) / total
    print(f"{'all':<32}{total + same_meaning:>8}{same_meaning:>12}{total - missed:>8}{missed:>9}{share:>9.1%}")
    for name, mutant in left:
        print(f"  {name}, line {mutant.line}: {mutant.change}" + (f"\n      {mutant.text}" if mutant.text else ""))
    return int(share < WANTED)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:2]))
