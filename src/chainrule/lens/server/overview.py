"""What the page asks first: what is shown, its network and its images."""

from __future__ import annotations

from starlette.responses import Response

from chainrule import __version__
from chainrule.lens.server.endpoints import Asked, Endpoint
from chainrule.lens.server.network import network
from chainrule.lens.server.payloads import json_response, tensor_response
from chainrule.lens.server.subject import Subject


def _meta(subject: Subject, asked: Asked) -> Response:
    trained, run = subject.trained, subject.run
    images = bool(trained is not None and subject.data)
    shape = None if trained is None else trained.image_shape
    return json_response(
        {
            "schema": 1,
            "title": subject.title,
            "kind": subject.kind,
            "live": subject.live,
            "model": "lenet" if run is None else run.config.model_name,
            "classes": [] if trained is None else trained.classes,
            "image": None if shape is None else dict(zip(("channels", "height", "width"), shape, strict=True)),
            "dataset": {"name": subject.dataset.name, "count": len(subject.dataset)} if images else None,
            "finding": None,
            "can": {
                "history": run is not None,
                "images": images,
                "draw": bool(shape and shape[0] == 1),
                "what_if": trained is not None,
                "time": False,
            },
            "version": __version__,
        }
    )


def _graph(subject: Subject, asked: Asked) -> Response:
    return json_response(network(subject.example, subject.tracer.model))


def _image(subject: Subject, asked: Asked) -> Response:
    pixels, label = subject.image(asked.whole("index", 0))
    return tensor_response(pixels, {"label": label, "class": subject.class_name(label)})


ENDPOINTS = (Endpoint("/api/meta", _meta), Endpoint("/api/graph", _graph), Endpoint("/api/image", _image))
