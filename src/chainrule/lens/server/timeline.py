"""A run as it was at earlier steps, by the snapshots that its training kept: filters, and passes of images."""

from __future__ import annotations

from starlette.responses import Response

from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.lens.server.endpoints import Asked, Endpoint
from chainrule.lens.server.passes import posted_whole, text_of, traced
from chainrule.lens.server.payloads import json_response, tensor_response
from chainrule.lens.server.refusals import Refusal
from chainrule.lens.server.subject import Subject
from chainrule.lens.tracing.filters import filters
from chainrule.train import RunFolder
from chainrule.train.snapshots import Snapshot, kept_steps, read_snapshot


def _run(subject: Subject) -> RunFolder:
    if subject.run is None:
        raise Refusal(404, f"Nothing is known of how {subject.title} was trained.", "Open a run: chainrule lens RUN.")
    return subject.run


def _time(subject: Subject, asked: Asked) -> Response:
    """The steps of which something is known, and what is kept of each; those whose file is damaged are left out, and named."""
    folder = _run(subject).snapshots
    steps: list[int] = []
    damaged: list[int] = []
    last: Snapshot | None = None
    for step in kept_steps(folder):
        try:
            last = read_snapshot(folder, step)
        except UserError:
            damaged.append(step)
        else:
            steps.append(step)
    return json_response(
        {
            "steps": steps,
            "damaged": damaged,
            "parameters": [] if last is None else [name for name, value in last.values.items() if value.ndim > 1],
            "whole": last is not None and last.whole,
        }
    )


def _filters(subject: Subject, asked: Asked) -> Response:
    name, step = text_of(asked, "name"), asked.whole("step")
    values = read_snapshot(_run(subject).snapshots, step).values
    if name not in values:
        raise Refusal(
            404,
            f"{displayed(name)} is not kept at each step.",
            "Of a large network only the smallest parameters are: choose one of those that are offered.",
        )
    return tensor_response(filters(subject.example, name, values[name]), {"after": step})


def _trace(subject: Subject, asked: Asked) -> Response:
    step = posted_whole(asked, "step")
    if step is None:
        raise Refusal(400, "step is missing.", 'Post {"step": 0, "index": 0}, for example.')
    snapshot = read_snapshot(_run(subject).snapshots, step)
    if not snapshot.whole:
        raise Refusal(
            409,
            "Of a network as large as this one only the smallest parameters are kept at each step, so no image can be sent "
            "through it as it was then.",
            "Look at its filters, which are kept.",
        )
    return traced(subject, subject.tracer.with_values(snapshot.values), asked)


ENDPOINTS = (
    Endpoint("/api/time", _time),
    Endpoint("/api/time/filters", _filters),
    Endpoint("/api/time/trace", _trace, "POST"),
)
