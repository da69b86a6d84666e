"""Parts of a model by patterns: which parameters a regular expression means, and how it is to freeze them."""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence

from chainrule.arguments import explained
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.nn import Module

_MOST_SHOWN = 12

LEAST_RATE, MOST_RATE = 1.2e-38, 3.4e38
"""The smallest and the largest learning rate: the normal numbers of float32."""


def check_pattern(option: str, pattern: str) -> None:
    """UserError, which begins with ``option``, unless ``pattern`` is a regular expression."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python may read in another way some day is refused
            re.compile(pattern)
    except (re.error, Warning, RecursionError, OverflowError) as error:
        raise UserError(f"{option}: {displayed(pattern)!r} is no regular expression ({error}): see Python's re") from None


def chosen(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that ``pattern`` fits as a whole, or whose beginning up to a dot it fits: "layer4" fits
    "layer4.0.conv1.weight", but not "layer44.weight"."""
    fits = re.compile(pattern).fullmatch
    return [name for name in names if any(fits(path) for path in _paths(name))]


def _alternatives(pattern: str) -> list[str]:
    """What stands between the bars of ``a|b[|]|(c|d)`` that are outside of all brackets: ``a``, ``b[|]`` and ``(c|d)``."""
    found, depth, escaped = [""], 0, False
    for one in pattern:
        depth += (one in "([") - (one in ")]") if not escaped else 0
        if one == "|" and depth == 0 and not escaped:
            found.append("")
        else:
            found[-1] += one
        escaped = one == "\\" and not escaped
    return found


def _paths(name: str) -> Iterator[str]:
    """``a``, ``a.b`` and ``a.b.c`` for ``a.b.c``."""
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def rates_by_pattern(spec: str) -> list[tuple[str, float]]:
    """``fc=0.1,layer4=0.01`` as pairs of a pattern and a learning rate; a pattern may hold commas.

    Raises:
        UserError: a pattern is no regular expression, or what follows it is no rate.
    """
    found: list[tuple[str, float]] = []
    end = 0
    for match in re.finditer(r"\s*([^,\s].*?)=([^=,]+)(?:,|$)", spec):
        pattern, written = match.groups()
        try:
            rate = float(written)
        except ValueError:
            rate = math.nan
        if match.start() != end or not LEAST_RATE <= rate <= MOST_RATE:
            break
        check_pattern("lr-of", pattern)
        found.append((pattern, rate))
        end = match.end()
    if end < len(spec) or spec.endswith(","):
        raise UserError(
            f"lr-of must be patterns, each with its learning rate above 0, such as 'fc=0.1,layer4=0.01', got {spec!r}"
        )
    return found


def no_part(option: str, pattern: str, model: Module, tried: Iterable[str] = ()) -> UserError:
    """What is said of a pattern that fits no parameter of ``model`` that is still to be had, and of the names that are near.

    ``tried`` are patterns that took their parameters before.
    """
    parameters = dict(model.named_parameters())
    fitting = chosen(pattern, parameters)
    if fitting:
        taken = [one for one in tried if chosen(one, fitting)]
        why = f"belong to {' and '.join(map(repr, taken))} before it: write it first, or" if taken else "are frozen:"
        return UserError(f"{option}: all parameters that the pattern {pattern!r} fits {why} leave it out")
    known = list(dict.fromkeys(path for name in parameters for path in _paths(name)))
    near = difflib.get_close_matches(re.sub(r"[^\w.]", "", pattern), known, 1, 0.5)
    meant = f"did you mean {near[0]!r}? It" if near else "it"
    top = list(dict.fromkeys(name.split(".")[0] for name in parameters))
    return UserError(
        f"{option}: the pattern {pattern!r} fits no parameter: {meant} must fit the whole name of a parameter, or of a part "
        f"above it; the parts of this model are {listed(top)}"
    )


def listed(names: Sequence[str]) -> str:
    """Names for a message: all if they are few, else the first of them and their number."""
    shown = ", ".join(map(displayed, names[:_MOST_SHOWN]))
    return shown if len(names) <= _MOST_SHOWN else f"{shown}, ... ({len(names)} in all)"


@explained
def freeze(model: Module, pattern: str) -> list[str]:
    """Freeze the parameters that ``pattern`` fits, and bring what is frozen of the normalisation into evaluation form.

    ``pattern`` is a regular expression that must fit the whole name of a parameter, or of a part above it: ``layer[1-3]`` fits
    all of ``layer1``, ``layer2`` and ``layer3``. Frozen parameters get no gradient and are not updated; where nothing below a
    layer learns, no gradient passes it at all. Layers with running statistics (batch normalisation) that the pattern fits, or
    whose parameters are all frozen, normalise by these and leave them as they are; ``model.train()`` would change that, so call
    it before. Returns the names of the parameters that were frozen.

    Raises:
        UserError: the pattern, or one of its alternatives (``a|b``), fits nothing; or it fits every parameter, or is no regular
            expression.
    """
    check_pattern("freeze", pattern)
    parameters = dict(model.named_parameters())
    for part in _alternatives(pattern):
        if not chosen(part, parameters):
            raise no_part("freeze", part, model)
    names = chosen(pattern, parameters)
    if all(name in names or not one.requires_grad for name, one in parameters.items()):
        before = [name for name, one in parameters.items() if not one.requires_grad and name not in names]
        that = f" that is not frozen already, as {listed(before)}," if before else ""
        last = [name for name in names if parameters[name].requires_grad or not before][-1].rpartition(".")[0]
        raise UserError(
            f"freeze: the pattern {pattern!r} fits every parameter{that}{'' if before else ','} so that nothing would be "
            f"trained: leave out a part of the model, such as {'' if before else 'the last one, '}{last!r}"
        )
    for name in names:
        parameters[name].requires_grad = False
    for path, module in _with_statistics(model):
        if path and chosen(pattern, [path]):
            module.eval()
    freeze_statistics(model)
    return names


def freeze_statistics(model: Module) -> None:
    """Bring layers with running statistics whose parameters are all frozen, by whomever, into evaluation form."""
    for _, module in _with_statistics(model):
        own = [parameter.requires_grad for parameter in module.parameters()]
        if own and not any(own):
            module.eval()


def _with_statistics(model: Module) -> Iterator[tuple[str, Module]]:
    """The layers that have buffers of their own, with their paths."""
    for path, module in model.named_modules():
        if not any(True for _ in module.children()) and any(True for _ in module.buffers()):
            yield path, module
