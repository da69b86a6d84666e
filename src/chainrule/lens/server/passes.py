"""Forward and backward passes of single images: what the page asks of ``lens.tracing``.

The passes of a subject are kept, the latest eight of them, or fewer where a pass takes much memory.
"""

from __future__ import annotations

import base64
import binascii
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from starlette.responses import Response

from chainrule.arguments import as_whole_numbers, flag, members_of, whole_number
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.graph import Array, Node
from chainrule.lens.expression import Misread
from chainrule.lens.naming import is_number
from chainrule.lens.rows import Edge, Row
from chainrule.lens.server.endpoints import Asked, Endpoint, Handler
from chainrule.lens.server.payloads import Summaries, json_response, summary, tensor_response
from chainrule.lens.server.refusals import Refusal, refusal_of
from chainrule.lens.server.subject import Subject
from chainrule.lens.tracing import Pass, Tracer, windows
from chainrule.lens.tracing.filters import filters
from chainrule.lens.tracing.image_of_file import image_of_file
from chainrule.lens.tracing.paths import paths
from chainrule.lens.tracing.probe import Probe, probe, probe_size
from chainrule.lens.tracing.receptive_field import receptive_field
from chainrule.lens.tracing.typed_expression import TypedExpression, typed_expression
from chainrule.lens.tracing.what_if import Edit, PixelEdit, WeightEdit, what_if

MOST_PASSES = 8
MOST_BYTES = 2_000_000_000
"""What all passes that are kept may take together, if it is more than one."""


class Kept(NamedTuple):
    """A pass, and what made it."""

    tracer: Tracer
    found: Pass


class PassStore:
    """The latest passes of a subject by their names, t1, t2, ..., with what was computed of them before."""

    def __init__(self) -> None:
        self._passes: OrderedDict[str, Kept] = OrderedDict()
        self._steps: dict[str, list[dict[str, Any]]] = {}
        self._made = 0
        self.probe: tuple[Tracer, Probe] | None = None

    def __repr__(self) -> str:
        return f"<PassStore of {len(self._passes)} passes>"

    def keep(self, tracer: Tracer, found: Pass) -> str:
        """Keep a pass, and let the oldest go where there are too many; gives its name."""
        most = max(1, min(MOST_PASSES, MOST_BYTES // max(1, tracer.needed)))
        while len(self._passes) >= most:
            gone, _ = self._passes.popitem(last=False)
            self._steps.pop(gone, None)
        self._made += 1
        name = f"t{self._made}"
        self._passes[name] = Kept(tracer, found)
        return name

    def named(self, name: Any) -> Kept:
        """A pass by its name; a Refusal with status 404 if it is not kept any more, or never was."""
        if not isinstance(name, str) or name not in self._passes:
            raise Refusal(404, f"The pass {displayed(str(name)[:40])} is not kept any more.", "Trace the image again.")
        return self._passes[name]

    def steps(self, name: str) -> list[dict[str, Any]]:
        """The way back through a pass, step by step, as JSON has it."""
        found = self.named(name).found
        if name not in self._steps:
            summaries = Summaries()
            self._steps[name] = [_step(found, row, summaries) for row in found.steps()]
        return self._steps[name]


_STORES: weakref.WeakKeyDictionary[Subject, PassStore] = weakref.WeakKeyDictionary()


def store_of(subject: Subject) -> PassStore:
    """The passes of a subject."""
    return _STORES.setdefault(subject, PassStore())


# ---- what is asked


def posted_whole(asked: Asked, name: str) -> int | None:
    """A whole number that was posted; None if it is missing or null."""
    value = asked.posted.get(name)
    return None if value is None else whole_number(name, value, 0)


def text_of(asked: Asked, name: str) -> str:
    """A text of the query; a Refusal if it is missing."""
    found = asked.query.get(name)
    if not found:
        raise Refusal(400, f"{name} is missing.", f"Ask with {name}=conv1.weight, for example.")
    return found


def _indices(asked: Asked, name: str) -> tuple[int, ...]:
    """Whole numbers with commas between them; none at all for a value without axes."""
    text = asked.query.get(name)
    if text is None:
        raise Refusal(400, f"{name} is missing.", f"Ask with {name}=0,3,5, a whole number for each axis.")
    parts = [one.strip() for one in text.split(",")] if text.strip() else []
    if not all(one.removeprefix("-").isdecimal() and len(one) < 16 for one in parts):
        raise Refusal(400, f"{name} must be whole numbers with commas between them, not {displayed(text[:40])}.")
    return tuple(map(int, parts))


def _unit(asked: Asked) -> tuple[int, ...]:
    """The unit at a channel and, in an image, a row y and a column x."""
    if "y" not in asked.query and "x" not in asked.query:
        return (asked.whole("channel"),)
    return asked.whole("channel"), asked.whole("y"), asked.whole("x")


def _posted_indices(what: str, value: Any) -> tuple[int, ...]:
    found = as_whole_numbers(value)
    if found is None:
        raise UserError(f"{what} must be a list of whole numbers, one for each axis, got {displayed(str(value)[:40])}")
    return found


# ---- passes


def _trace(subject: Subject, asked: Asked) -> Response:
    return traced(subject, subject.tracer, asked)


def traced(subject: Subject, tracer: Tracer, asked: Asked) -> Response:
    """The answer to a request for a pass of an image through the model of ``tracer``, which is kept among the others."""
    notes: list[str] = []
    given = [name for name in ("index", "file", "pixels") if asked.posted.get(name) is not None]
    if len(given) != 1:
        raise Refusal(400, "A pass is of one image: an index, a file, or pixels.", 'Post {"index": 0}, for example.')
    label = posted_whole(asked, "label")
    if given == ["index"]:
        index = whole_number("index", asked.posted["index"], 0)
        pixels, own, said = subject.image(index)
        label, notes = own if label is None else label, list(said)
    elif given == ["file"]:
        name, invert = asked.posted.get("name", ""), flag("invert", asked.posted.get("invert", False))
        pixels, notes = image_of_file(tracer, _decoded(asked.posted["file"]), str(name), invert)
    else:
        pixels = tracer.pixels_of(asked.posted["pixels"])
    found = tracer.trace(pixels, label)
    return json_response(
        {
            "trace": store_of(subject).keep(tracer, found),
            "label": found.label,
            "labelled": found.labelled,
            "loss": found.loss,
            "probabilities": found.probabilities,
            "notes": [*notes, *tracer.notes],
        }
    )


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise Refusal(400, "The file must be posted as base64.", "Send its bytes encoded so, as text.") from None


def _image(subject: Subject, asked: Asked) -> Response:
    """The image of a pass as it is seen: numbers from 0 to 1."""
    pixels = store_of(subject).named(asked.path["trace"]).found.pixels
    return tensor_response((pixels / np.float32(255)).astype(np.float32) if pixels.dtype == np.uint8 else pixels)


def _of_pass(answer: Callable[[Kept, Asked], Response]) -> Handler:
    """A handler for what is asked of a pass that is kept."""
    return lambda subject, asked: answer(store_of(subject).named(asked.path["trace"]), asked)


def _steps(subject: Subject, asked: Asked) -> Response:
    return json_response({"steps": store_of(subject).steps(asked.path["trace"])})


def _step(found: Pass, row: Row, summaries: Summaries) -> dict[str, Any]:
    assert row.upstream is not None  # steps are of nodes at which a gradient arrives
    return {
        "node": row.index,
        "upstream": summaries.of(row.upstream),
        "value": summaries.of(row.value),
        "summands": [
            {"from": found.graph.index[user], "upstream": summaries.of(array)} for user, array in _summands(found, row)
        ],
        "edges": [_edge(found, row, edge, summaries) for edge in row.edges],
    }


def _summands(found: Pass, row: Row) -> list[tuple[Node, Array]]:
    """What each node that uses a value passes back to it."""
    return [
        (user, edge.downstream)
        for user in dict.fromkeys(found.consumers[row.node])
        if not is_number(user)
        for edge in found.row(found.graph.index[user]).edges
        if edge.input is row.node
    ]


def _edge(found: Pass, row: Row, edge: Edge, summaries: Summaries) -> dict[str, Any]:
    local = found.local_shown(row.index, edge.position)
    return {
        "input": found.graph.index[edge.input],
        "position": edge.position,
        "kind": edge.kind.value,
        "formula": edge.formula,
        "local": None if local is None else summary(local),
        "downstream": summaries.of(edge.downstream),
    }


def _check(kept: Kept, asked: Asked) -> Response:
    checks = kept.found.check(asked.whole("node"))
    return json_response(
        {
            "edges": [
                {
                    "input": kept.found.graph.index[one.input],
                    "position": one.position,
                    "error": one.error,
                    "tolerance": one.tolerance,
                }
                for one in checks
            ]
        }
    )


def _tensor(kept: Kept, asked: Asked) -> Response:
    position, channel = (asked.whole(name) if name in asked.query else None for name in ("position", "channel"))
    return tensor_response(kept.found.tensor(asked.whole("node"), asked.query.get("which", "value"), position, channel))


def _local(kept: Kept, asked: Asked) -> Response:
    local = kept.found.local(asked.whole("node"), asked.whole("position", 0), _indices(asked, "unit"))
    return tensor_response(local.row, {"kind": local.kind.value, "formula": local.formula, "upstream": local.upstream})


# ---- convolutions


def _window(kept: Kept, asked: Asked) -> Response:
    seen = windows.window(kept.found, asked.whole("node"), asked.whole("channel"), (asked.whole("y"), asked.whole("x")))
    return json_response(
        {
            "channels": seen.channels,
            "patch": seen.patch,
            "kernel": seen.kernel,
            "inside": seen.inside,
            "products": seen.products,
            "bias": seen.bias,
            "sum": seen.sum,
            "value": seen.value,
            "node": kept.found.graph.index[seen.result],
            "place": seen.place._asdict(),
        }
    )


def _weight_gradient(kept: Kept, asked: Asked) -> Response:
    seen = windows.weight_gradient(kept.found, asked.whole("node"), asked.whole("output"), asked.whole("input"))
    return json_response(
        {
            "input": seen.image,
            "upstream": seen.upstream,
            "gradient": seen.gradient,
            "stride": seen.stride,
            "padding": [before for before, _ in seen.padding],
            "padding_after": [after for _, after in seen.padding],
            "dilation": seen.dilation,
        }
    )


def _input_gradient(kept: Kept, asked: Asked) -> Response:
    output = asked.whole("output") if "output" in asked.query else None
    seen = windows.input_gradient(kept.found, asked.whole("node"), asked.whole("input"), output)
    return json_response(
        {
            "outputs": seen.outputs,
            "output": seen.output,
            "stuffed": seen.stuffed,
            "flipped": seen.flipped,
            "dilation": seen.dilation,
            "part": seen.part,
            "downstream": seen.downstream,
            "shares": seen.shares,
        }
    )


def _receptive_field(kept: Kept, asked: Asked) -> Response:
    seen = receptive_field(kept.found, asked.whole("node"), _unit(asked))
    return json_response({"box": seen.box._asdict(), "whole": seen.whole._asdict(), "measured": seen.measured})


# ---- weights


def _paths(kept: Kept, asked: Asked) -> Response:
    seen, number = paths(kept.found, text_of(asked, "name"), _indices(asked, "index")), kept.found.graph.index
    return json_response(
        {
            "gradient": seen.gradient,
            "nodes": [{"node": number[lit.node], "share": lit.share} for lit in seen.nodes],
            "strongest": [
                {
                    "node": number[step.node],
                    "unit": step.unit,
                    "value": step.value,
                    "local": step.local,
                    "formula": step.formula,
                }
                for step in seen.strongest
            ],
            "product": seen.product,
            "sum": seen.sum,
        }
    )


def _filters(subject: Subject, asked: Asked) -> Response:
    return tensor_response(filters(subject.example, text_of(asked, "name")))


def _relu(subject: Subject, asked: Asked) -> Response:
    tracer, store = subject.tracer, store_of(subject)
    if store.probe is None or store.probe[0] is not tracer:
        count = min(probe_size(tracer), len(subject.dataset))
        store.probe = tracer, probe(tracer, subject.dataset.images(range(count)))
    found = store.probe[1]
    return json_response(
        {
            "probe": found.images,
            "layers": [
                {
                    "node": layer.number,
                    "path": layer.node.origin.module,
                    "channels": len(layer.zeros),
                    "zeros": layer.zeros,
                    "dead": layer.dead,
                    "died": subject.died(layer.number, len(layer.zeros)),
                }
                for layer in found.layers
            ],
        }
    )


def _what_if(subject: Subject, asked: Asked) -> Response:
    kept = store_of(subject).named(asked.posted.get("trace"))
    remedy = 'post {"trace": "t1", "edits": [{"pixel": [0, 3, 4], "value": 1}]}, for example'
    edits = [_edit(one) for one in members_of("edits", asked.posted.get("edits"), remedy)]
    seen = what_if(kept.tracer, kept.found, edits)
    return json_response(
        {
            "before": seen.before,
            "after": seen.after,
            "predicted": seen.predicted,
            "probabilities": seen.probabilities,
            "changed": [
                {"node": kept.found.graph.index[one.node], "difference": one.difference, "relative": one.relative}
                for one in seen.changed
            ],
            "silenced": [
                {"node": kept.found.graph.index[one.node], "silent": one.silent, "awake": one.awake} for one in seen.silenced
            ],
        }
    )


def _edit(given: Any) -> Edit:
    if isinstance(given, Mapping) and "value" in given:
        if "pixel" in given:
            return PixelEdit(_posted_indices("pixel", given["pixel"]), given["value"])
        if "name" in given:
            return WeightEdit(str(given["name"]), _posted_indices("index", given.get("index")), given["value"])
    raise UserError(
        'an edit is {"name": "conv1.weight", "index": [0, 0, 1, 1], "value": 0.5} or {"pixel": [channel, y, x], "value": 0.5}'
    )


# ---- drawings and expressions


def _draw(subject: Subject, asked: Asked) -> Response:
    tracer = subject.tracer
    image = tracer.image_of_drawing(asked.posted.get("pixels"))
    probabilities, loss, gradient = tracer.judge(image, posted_whole(asked, "label"))
    return json_response({"probabilities": probabilities, "loss": loss, "gradient": gradient.sum(axis=0)})


def _expression(subject: Subject, asked: Asked) -> Response:
    text, values = asked.posted.get("text"), asked.posted.get("values") or {}
    if not isinstance(text, str) or not isinstance(values, Mapping):
        raise Refusal(
            400, "An expression is a text, and its values are by name.", 'Post {"text": "w * x", "values": {"w": 1}}.'
        )
    try:
        return json_response(_explained(typed_expression(text, values, asked.posted.get("learning_rate", 0.1))))
    except UserError as error:
        place = error.column if isinstance(error, Misread) else None
        refusal = refusal_of(UserError(str(error).split("\n")[0]))
        return json_response({"error": refusal.error, "hint": refusal.hint, "place": place}, 400)


def _explained(found: TypedExpression) -> dict[str, Any]:
    graph = found.explanation.graph
    return {
        "names": found.names,
        "values": found.values,
        "nodes": [
            {
                "id": row.index,
                "name": row.name,
                "formula": row.formula,
                "role": row.role.value,
                "inputs": [graph.index[one] for one in row.node.inputs if not is_number(one)],
                "value": row.value,
                "upstream": row.upstream,
                "edges": [
                    {
                        "input": graph.index[edge.input],
                        "position": edge.position,
                        "local": edge.local,
                        "formula": edge.formula,
                        "downstream": edge.downstream,
                    }
                    for edge in row.edges
                ],
            }
            for row in found.explanation.rows
        ],
        "error": found.explanation.error,
        "gradients": found.explanation.gradients,
        "stepped": found.stepped,
        "error_after": found.error_after,
    }


_ABOUT_A_PASS: Sequence[tuple[str, Callable[[Kept, Asked], Response]]] = (
    ("check", _check),
    ("tensor", _tensor),
    ("local", _local),
    ("window", _window),
    ("weight_gradient", _weight_gradient),
    ("input_gradient", _input_gradient),
    ("receptive_field", _receptive_field),
    ("paths", _paths),
)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("/api/trace", _trace, "POST"),
    Endpoint("/api/trace/{trace}/steps", _steps),
    Endpoint("/api/trace/{trace}/image", _image),
    *(Endpoint(f"/api/trace/{{trace}}/{name}", _of_pass(answer)) for name, answer in _ABOUT_A_PASS),
    Endpoint("/api/filters", _filters),
    Endpoint("/api/relu", _relu),
    Endpoint("/api/what_if", _what_if, "POST"),
    Endpoint("/api/draw", _draw, "POST"),
    Endpoint("/api/expression", _expression, "POST"),
)
