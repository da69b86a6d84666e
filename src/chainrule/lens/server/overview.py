"""What the page asks first: what is shown, its network and its images."""

from __future__ import annotations

from starlette.responses import Response

from chainrule import __version__
from chainrule.lens.server.endpoints import Asked, Endpoint
from chainrule.lens.server.history import history_facts, worst_finding
from chainrule.lens.server.network import network
from chainrule.lens.server.payloads import json_response, tensor_response
from chainrule.lens.server.refusals import Refusal
from chainrule.lens.server.subject import Subject, in_unit_range
from chainrule.train.snapshots import kept_steps


def _meta(subject: Subject, asked: Asked) -> Response:
    trained, run = subject.trained, subject.run
    images = subject.images
    health = None if subject.history is None else subject.history.health()
    shape = None if trained is None else trained.image_shape
    return json_response(
        {
            "schema": 1,
            "title": subject.title,
            "kind": subject.kind,
            "live": subject.live,
            "model": _model_name(subject),
            "classes": [] if trained is None else trained.classes,
            "image": None if shape is None else dict(zip(("channels", "height", "width"), shape, strict=True)),
            "dataset": None if images is None else dict(zip(("name", "count"), images, strict=True)),
            "finding": worst_finding(health, lambda: subject.places) if health is not None else None,
            "can": {
                "history": run is not None,
                "images": images is not None,
                "draw": bool(shape and shape[0] == 1),
                "what_if": trained is not None,
                "time": run is not None and trained is not None and bool(kept_steps(run.snapshots)),
            },
            "version": __version__,
        }
    )


def _model_name(subject: Subject) -> str:
    if subject.run is not None:
        return subject.run.config.model_name
    return "lenet" if subject.kind == "shipped" else type(subject.model.model).__name__


def _graph(subject: Subject, asked: Asked) -> Response:
    return json_response(network(subject.example, subject.tracer.model))


def _image(subject: Subject, asked: Asked) -> Response:
    shown = subject.image(asked.whole("index", 0))
    facts = {"label": shown.label, "class": subject.class_name(shown.label), "notes": shown.notes}
    return tensor_response(in_unit_range(shown.pixels), facts)


def _history(subject: Subject, asked: Asked) -> Response:
    if subject.history is None:
        raise Refusal(404, f"Nothing is known of how {subject.title} was trained.", "Open a run: chainrule lens RUN.")
    live = subject.live  # before the files are read, so that the last ones are read once more when it is over
    return json_response(history_facts(subject.history, live, subject.places, asked.query.get("since", "0")))


ENDPOINTS = (
    Endpoint("/api/meta", _meta),
    Endpoint("/api/graph", _graph),
    Endpoint("/api/image", _image),
    Endpoint("/api/history", _history, reads=True),
)
