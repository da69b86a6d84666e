"""Reads an expression and the values of its names, as ``chainrule explain "(w @ x - y)**2" 'w=[1,2]' 'x=[3,4]' y=5`` gives
them. The text is parsed and walked; it is never run as Python."""

from __future__ import annotations

import ast
import keyword
import operator
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.arguments import explained
from chainrule.errors import UserError, nearest
from chainrule.nn import functional
from chainrule.tensor import Tensor, tensor
from chainrule.tensor.functions import maximum, minimum

MOST_AXES = 8  # of a value: lists inside lists
_WINDOW = 60  # how much of a long text an error shows

_OPERATORS: dict[type[ast.AST], Callable[[Tensor, Tensor], Tensor]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.MatMult: operator.matmul,
}
_OF_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": Tensor.exp,
    "log": Tensor.log,
    "sqrt": Tensor.sqrt,
    "tanh": Tensor.tanh,
    "sigmoid": Tensor.sigmoid,
    "relu": functional.relu,
    "abs": Tensor.abs,
    "sin": Tensor.sin,
    "cos": Tensor.cos,
    "erf": Tensor.erf,
}
_OVER_AXES: dict[str, Callable[..., Tensor]] = {
    "sum": Tensor.sum,
    "mean": Tensor.mean,
    "max": Tensor.max,
    "min": Tensor.min,
    "softmax": functional.softmax,
}
_OF_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"maximum": maximum, "minimum": minimum}
_OF_TWO_TOO = {"max": maximum, "min": minimum}  # max(0, x), as the lecture writes it
FUNCTIONS = (*_OF_ONE, *_OVER_AXES, *_OF_TWO)

_REFUSED: dict[type[ast.AST], str] = {
    ast.Attribute: "a name after a dot is not known here: write sum(x) for x.sum()",
    ast.Compare: "a comparison has no gradient: choose with maximum(a, b), minimum(a, b) or relu(a)",
    ast.BoolOp: "and, or, not have no gradient: choose with maximum(a, b) or minimum(a, b)",
    ast.IfExp: "if and else are not known here: choose with maximum(a, b), minimum(a, b) or relu(a)",
    ast.List: "a list has no place here: give it a name, such as 'c=[1,2]', and write c",
    ast.Tuple: "a comma has no place here: only between the arguments of a function and between indices",
}
_KNOWN = f"only numbers, names, + - * / ** @, parentheses, indices and the functions {', '.join(FUNCTIONS)} are known here"


class Misread(UserError):  # noqa: N818 - what is wrong with a text, not that something is
    """Something that a person wrote cannot be read; ``column`` is the place in the text, from 0."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True)
class _Source:
    """A text that a person wrote, and what it is: ``expression``, or ``value of w``; it began with ``indent`` blanks."""

    what: str
    text: str
    indent: int

    @classmethod
    def of(cls, what: str, text: str) -> _Source:
        written = "".join(" " if one.isspace() else one for one in text)
        return cls(what, written.strip(), len(written) - len(written.lstrip()))

    def error(self, column: int, message: str) -> UserError:
        """An error that shows the place; ``column`` counts characters from 0."""
        column = max(0, min(column, len(self.text)))
        begin = max(0, column - _WINDOW) if len(self.text) > 2 * _WINDOW else 0
        shown = self.text[begin : begin + 2 * _WINDOW]
        before, after = "…" if begin else "", "…" if begin + len(shown) < len(self.text) else ""
        clean = "".join(one if one.isprintable() else "\ufffd" for one in shown)
        caret = " " * (len(before) + column - begin) + "^"
        return Misread(
            f"{self.what}, column {column + 1}: {message}\n  {before}{clean}{after}\n  {caret}", column + self.indent
        )

    def error_at(self, node: ast.expr, message: str) -> UserError:
        return self.error(self.column(node.col_offset), message)

    def column(self, byte: int) -> int:
        """The syntax tree counts bytes, people count characters."""
        return len(self.text.encode()[:byte].decode(errors="ignore"))

    def parse(self) -> ast.expr:
        if not self.text:
            raise UserError(f"{self.what}: is empty")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Python, about its own future
                return ast.parse(self.text, mode="eval").body
        except (RecursionError, MemoryError):
            raise UserError(f"{self.what}: is nested too deeply to be read: use fewer brackets, or split it up") from None
        except SyntaxError as error:
            what = "too many nested parentheses" if "nested" in error.msg else error.msg.split(";")[0].rstrip(".")
            remedy = "write it as in Python, with * for each product, such as (w @ x - y)**2"
            raise self.error((error.offset or 1) - 1, f"{what}: {remedy}") from None
        except ValueError:  # characters that have no bytes
            raise UserError(f"{self.what}: {_quoted(self.text)} contains characters that cannot be read") from None


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= _WINDOW else text[: _WINDOW - 1] + "…")


# ---- values


@explained
def parse_values(assignments: Iterable[str]) -> dict[str, Tensor]:
    """The tensors that ``["w=[1,2]", "x=[[1,2],[3,4]]", "y=5"]`` gives: float64, labelled, each asking for its gradient.

    A value is a number (``inf`` and ``nan`` are numbers too) or a list of values of equal shapes.
    """
    values: dict[str, Tensor] = {}
    texts: dict[str, str] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = unicodedata.normalize("NFKC", name.strip())
        if not equals or not name.isidentifier():
            raise UserError(f"{_quoted(assignment)} is not of the form name=value, such as y=5, or in quotes 'w=[1, 2]'")
        if keyword.iskeyword(name) or name in FUNCTIONS:
            kind = "a word of Python" if keyword.iskeyword(name) else "a function"
            raise UserError(f"{_quoted(assignment)}: {name} is {kind}: choose another name")
        if name in values:
            raise UserError(f"{name} is given twice, {_quoted(texts[name])} and {_quoted(assignment)}: leave one out")
        texts[name] = assignment
        values[name] = tensor(_array(_Source.of(f"value of {name}", text)), requires_grad=True, label=name)
    return values


def _array(source: _Source) -> np.ndarray[Any, Any]:
    if source.text.startswith("[") and "]" not in source.text:
        raise UserError(
            f"{source.what}: {_quoted(source.text)} has no closing bracket: write all of it in quotes, such as "
            f"'{source.what.removeprefix('value of ')}=[1, 2]'"
        )
    root = source.parse()
    numbers = _numbers(source, root, 0)
    try:
        return np.array(numbers, dtype=np.float64)
    except ValueError:
        raise source.error_at(root, "the rows of the list must have equal lengths") from None


def _numbers(source: _Source, node: ast.expr, depth: int) -> Any:
    if isinstance(node, ast.List | ast.Tuple):
        if depth == MOST_AXES:
            raise source.error_at(node, f"lists are nested deeper than {MOST_AXES} levels")
        return [_numbers(source, one, depth + 1) for one in node.elts]
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    inner = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd) else node
    if isinstance(inner, ast.Name) and inner.id in ("inf", "nan"):
        number = float(inner.id)
    elif isinstance(inner, ast.Constant) and type(inner.value) in (int, float):
        number = _float(source, inner)
    else:
        raise source.error_at(node, "a value is a number or a list of numbers, such as 5, -0.1 or [[1,2],[3,4]]")
    return -number if negative else number


def _float(source: _Source, node: ast.Constant) -> float:
    try:
        return float(node.value)  # type: ignore[arg-type]  # an int or a float
    except OverflowError:
        raise source.error_at(node, "the number does not fit float64, whose largest is about 1.8e308") from None


# ---- expressions


@explained
def parse_expression(text: str, values: dict[str, Tensor]) -> Tensor:
    """The tensor that ``text`` says, computed from ``values``.

    Known are numbers, the names in ``values``, ``+ - * / ** @``, parentheses, indices (whole numbers and slices) and the
    functions in ``FUNCTIONS``, with ``axis=`` where NumPy has it; ``max(a, b)`` is ``maximum(a, b)``. Everything else is a
    UserError that shows the place. ``a ** b`` with a name in ``b`` needs a >= 0.
    """
    return _Walk(_Source.of("expression", text), values).run()


@explained
def names_in(text: str) -> list[str]:
    """The names of an expression that want a value, in their order there; a UserError if it cannot be read."""
    tree = _Source.of("expression", text).parse()
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    names.sort(key=lambda node: (node.lineno, node.col_offset))
    return list(dict.fromkeys(node.id for node in names))


class _Walk:
    """Evaluates a syntax tree from the leaves up, without recursion."""

    def __init__(self, source: _Source, values: dict[str, Tensor]) -> None:
        self.source = source
        self.values = values

    def run(self) -> Tensor:
        todo: list[tuple[ast.expr, int]] = [(self.source.parse(), -1)]  # an expression, and its operands if they are done
        done: list[Tensor] = []
        while todo:
            node, count = todo.pop()
            if count < 0:
                operands = self.operands(node)
                todo.append((node, len(operands)))
                todo.extend((one, -1) for one in reversed(operands))
                continue
            given = done[len(done) - count :]
            del done[len(done) - count :]
            try:
                done.append(self.apply(node, given))
            except UserError as error:
                if str(error).startswith(self.source.what):
                    raise
                raise self.source.error(self.place(node), str(error)) from None
        return done[0]

    def operands(self, node: ast.expr) -> Sequence[ast.expr]:
        """The expressions that ``node`` is made of; refuses whatever is not known."""
        match node:
            case ast.Constant() | ast.Name():
                return ()
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=one):
                return (one,)
            case ast.BinOp(left=left, right=right):
                return left, right
            case ast.Subscript(value=one):
                return (one,)
            case ast.Call(args=arguments):
                self.check_call(node)
                return arguments
            case _:
                raise self.source.error_at(node, _REFUSED.get(type(node), _KNOWN))

    def apply(self, node: ast.expr, given: list[Tensor]) -> Tensor:
        match node:
            case ast.Constant():
                return self.number(node)
            case ast.Name(id=name):
                if name not in self.values:
                    raise self.unknown(node, "name", name, self.values)
                return self.values[name]
            case ast.UnaryOp(op=sign):
                return -given[0] if isinstance(sign, ast.USub) else given[0]
            case ast.BinOp(op=ast.Pow()):
                return _power(*given)
            case ast.BinOp(op=sign) if type(sign) in _OPERATORS:
                return _OPERATORS[type(sign)](*given)
            case ast.BinOp(op=ast.BitXor()):
                raise UserError("^ is not a power here: write **")
            case ast.Subscript(slice=key):
                return given[0][tuple(map(self.key, key.elts)) if isinstance(key, ast.Tuple) else self.key(key)]
            case ast.Call():
                return self.call(node, given)
        raise UserError("this operator is not known here: known are + - * / ** @")

    def number(self, node: ast.Constant) -> Tensor:
        if type(node.value) not in (int, float):
            raise self.source.error_at(node, "this is no number: only numbers, names and functions of them are known here")
        return tensor(_float(self.source, node), "float64")

    def unknown(self, node: ast.expr, kind: str, name: str, known: Iterable[str]) -> UserError:
        near = nearest(name, known)
        hint = f"did you mean {near!r}? " if near else "" if kind == "function" else f"give it a value, such as {name}=1. "
        listed = ", ".join(known) or "no name"
        return self.source.error_at(node, f"unknown {kind} {name!r}: {hint}{'Given' if kind == 'name' else 'Known'}: {listed}")

    # ---- calls and indices

    def check_call(self, node: ast.Call) -> None:
        if not isinstance(node.func, ast.Name):
            raise self.source.error_at(node.func, _REFUSED.get(type(node.func), "this is no function: write * for a product"))
        name = node.func.id
        if name in self.values:
            raise self.source.error_at(node.func, f"{name} is a value, not a function: write * for a product")
        if name not in FUNCTIONS:
            raise self.unknown(node.func, "function", name, FUNCTIONS)
        starred = next((one for one in node.args if isinstance(one, ast.Starred)), None)
        if starred is not None:
            raise self.source.error_at(starred, "a * before an argument is not known here: write the arguments one by one")
        two = name in _OF_TWO or (name in _OF_TWO_TOO and not node.keywords and len(node.args) == 2)
        if len(node.args) != (2 if two else 1):
            takes = "2 arguments" if name in _OF_TWO else "1 or 2 arguments" if name in _OF_TWO_TOO else "1 argument"
            over = " (and axis=, a whole number)" if name in _OVER_AXES else ""
            raise self.source.error_at(node, f"{name} takes {takes}{over}, got {len(node.args)}")
        if node.keywords and (name not in _OVER_AXES or [one.arg for one in node.keywords] != ["axis"]):
            takes = "only axis=" if name in _OVER_AXES else "nothing"
            raise self.source.error_at(node.keywords[0].value, f"{name} takes {takes} by name")

    def call(self, node: ast.Call, given: list[Tensor]) -> Tensor:
        assert isinstance(node.func, ast.Name)  # by check_call
        name = node.func.id
        if name in _OF_ONE:
            return _OF_ONE[name](*given)
        if len(given) == 2:
            return (_OF_TWO | _OF_TWO_TOO)[name](*given)
        over_axes = _OVER_AXES[name]
        return over_axes(*given, axis=self.integer(node.keywords[0].value)) if node.keywords else over_axes(*given)

    def key(self, node: ast.expr) -> int | slice:
        if not isinstance(node, ast.Slice):
            return self.integer(node)
        begin, end, step = (None if one is None else self.integer(one) for one in (node.lower, node.upper, node.step))
        if step == 0:
            raise self.source.error_at(node, "a slice cannot have step 0")
        return slice(begin, end, step)

    def integer(self, node: ast.expr) -> int:
        inner = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node
        if not isinstance(inner, ast.Constant) or type(inner.value) is not int:
            raise self.source.error_at(
                node, "an index or axis is a whole number, such as 0 or -1; an index may also be a slice, 0:2"
            )
        return inner.value if inner is node else -inner.value

    def place(self, node: ast.expr) -> int:
        """Where to point: at the operator, else at the start."""
        if not isinstance(node, ast.BinOp):
            return self.source.column(node.col_offset)
        column = self.source.column(node.left.end_col_offset or 0)
        while self.source.text[column] in " )":
            column += 1
        return column


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    if not exponent.requires_grad and exponent.size == 1:
        return base ** float(exponent)
    if (base.numpy() < 0).any():
        raise UserError(
            "a ** b with a name in b has a gradient for b, which is a ** b ln a, only where a >= 0, "
            f"but a is {base.item() if base.size == 1 else base.tolist()}: write the exponent as a number, such as a ** 2"
        )
    return base**exponent
