"""The page as one file, which needs no server: its modules in an import map, and beside them the answers that they ask for.

    index.html   styles, modules, answers and arrays, deflated ──> FILE.html, which opens without a network, also in a frame

What is embedded is the training, the network, and the pass of one image: every value, every gradient, every filter, as long as
they are not too many numbers. An array that is asked for under several names, or as its transpose, is there once. A policy in
the file itself lets it load nothing from anywhere.
"""

from __future__ import annotations

import base64
import itertools
import json
import posixpath
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import numpy as np
from starlette.responses import Response
from starlette.routing import compile_path

from chainrule.display import displayed
from chainrule.errors import InternalError, UserError
from chainrule.graph import PARAMETER
from chainrule.lens.server.application import ENDPOINTS, PAGE
from chainrule.lens.server.endpoints import Asked
from chainrule.lens.server.payloads import TENSOR_HEADER
from chainrule.lens.server.refusals import Refusal
from chainrule.lens.server.subject import Subject

MOST_BYTES = 8 << 20
"""Of answers in a file, before they are deflated; those that come first on the way from the loss to the image are in it."""

_SEVERAL, _AROUND = 6, 4  # filters and channels; places on each side of the middle

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
_AS_THEY_ARE = " !$&'()*+,-./:;<=>?@[]^_`{|}~\""  # in a data URL; not so line ends and signs that mean something in it
_IMPORT = re.compile(r"""(\bfrom\s*|\bimport\s*)(["'])(\.{1,2}/[^"']+)\2""")
_STYLE = re.compile(r'<link rel="stylesheet" href="page/([^"]+)" />')
_ICON = re.compile(r'<link rel="icon" href="page/([^"]+)" />')
_SCRIPT = re.compile(r'<script type="module" src="page/([^"]+)"></script>')


def exported(subject: Subject, image: int | None = None) -> str:
    """The page with all of a subject that fits, and the pass of the image of that number, by default the first one.

    Raises:
        UserError: there is no such image, or the pass does not fit into memory.
    """
    answers = subject.holding(lambda: _answers(subject, image))
    return page_of(answers, f"{subject.title} · chainrule lens")


# ---- the answers


def _answers(subject: Subject, image: int | None) -> dict[str, Any]:
    """What the page asks for, by path, as ``page/api.js`` reads it: JSON, and arrays with their headers."""
    found: dict[str, Any] = {"json": {}, "tensors": {}}  # of the latter each answer as it is
    meta = _json(_answer(subject, "/api/meta"))
    meta["live"] = False
    meta["can"] = {**meta["can"], "draw": False, "what_if": False, "time": False}
    if meta["dataset"] is not None:
        meta["dataset"]["count"] = 1
    found["json"]["/api/meta"] = meta
    if meta["can"]["history"]:
        found["json"]["/api/history?since=0"] = {**_json(_answer(subject, "/api/history?since=0")), "live": False}
    if meta["image"] is None:
        return found
    network = found["json"]["/api/graph"] = _json(_answer(subject, "/api/graph"))
    if meta["dataset"] is None:
        return found
    index = 0 if image is None else image
    found["tensors"]["/api/image?index=0"] = _answer(subject, f"/api/image?index={index}")
    passed = found["json"]["/api/trace"] = _json(_answer(subject, "/api/trace", {"index": index}))
    about = f"/api/trace/{passed['trace']}"
    steps = found["json"][f"{about}/steps"] = _json(_answer(subject, f"{about}/steps"))
    room = MOST_BYTES
    for path in _paths(about, network, steps["steps"]):
        try:
            answer = _answer(subject, path)
        except (UserError, Refusal):  # not every node has each of them
            continue
        room -= len(answer.body)
        if room < 0:
            break
        if TENSOR_HEADER in answer.headers:
            found["tensors"][path] = answer
        else:
            found["json"][path] = _json(answer)
    return found


def _paths(about: str, network: Mapping[str, Any], steps: list[dict[str, Any]]) -> Iterator[str]:
    """What the views ask of a pass, the most important first."""
    yield f"{about}/image"
    leaves = [node["id"] for node in network["nodes"] if not any(step["node"] == node["id"] for step in steps)]
    for step in steps:
        for which in ("value", "upstream"):
            yield _with(f"{about}/tensor", node=step["node"], which=which)
    for node in leaves:
        yield _with(f"{about}/tensor", node=node, which="value")
    for node in network["nodes"]:
        if node["leaf"] == PARAMETER.name and len(node["shape"]) > 1:
            yield _with("/api/filters", name=node["name"])
    for step in steps:
        for edge in step["edges"]:
            for which in ("local", "downstream"):
                yield _with(f"{about}/tensor", node=step["node"], which=which, position=edge["position"])
    for step in steps:
        yield _with(f"{about}/check", node=step["node"])
    for node in network["nodes"]:
        if node["convolution"] is not None:
            yield from _of_convolution(about, node, {one["id"]: one for one in network["nodes"]})


def _of_convolution(about: str, node: Mapping[str, Any], nodes: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    """What is asked of a convolution: the window of its first filter at places around the middle, and of some filters and
    channels both ways back."""
    source = nodes[node["inputs"][0]]
    _, outputs, *size = node["shape"]
    inputs = source["shape"][1] // node["convolution"]["groups"]  # those that the first filter sees
    pairs = [(0, 0), *((0, one) for one in range(1, min(inputs, _SEVERAL)))]
    if node["convolution"]["groups"] == 1:
        pairs += [(one, 0) for one in range(1, min(outputs, _SEVERAL))]
    for one in range(min(inputs, _SEVERAL)):
        yield _with(f"{about}/tensor", node=source["id"], which="value", channel=one)
    for one in range(min(outputs, _SEVERAL)):
        yield _with(f"{about}/tensor", node=node["id"], which="value", channel=one)
    for output, channel in pairs:
        yield _with(f"{about}/weight_gradient", node=node["id"], output=output, input=channel)
        yield _with(f"{about}/input_gradient", node=node["id"], input=channel, output=output)
    around = [range(max(0, side // 2 - _AROUND), min(side, side // 2 + _AROUND + 1)) for side in size]
    for y, x in itertools.product(*around) if len(size) == 2 else ():
        yield _with(f"{about}/window", node=node["id"], channel=0, y=y, x=x)


def _with(path: str, **query: object) -> str:
    """A path with a query, as a browser writes it."""
    return f"{path}?{urlencode(query)}"


def _answer(subject: Subject, path: str, posted: Mapping[str, Any] | None = None) -> Response:
    """What an endpoint answers, without a server."""
    place, _, query = path.partition("?")
    for endpoint in ENDPOINTS:
        fits = compile_path(endpoint.path)[0].match(place)
        if fits and endpoint.method == ("GET" if posted is None else "POST"):
            return endpoint.handler(subject, Asked(fits.groupdict(), dict(parse_qsl(query)), posted or {}))
    raise InternalError(f"the lens has no endpoint {place}")


def _json(answer: Response) -> Any:
    return json.loads(bytes(answer.body))


# ---- the file


def page_of(answers: Mapping[str, Any], title: str) -> str:
    """``index.html`` with everything that it loads inside it, and the answers that its modules find instead of a server."""
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}" />'
    text = text.replace("<head>", f"<head>\n    {policy}", 1)
    text = re.sub("<title>.*?</title>", lambda _: f"<title>{_as_text(displayed(title))}</title>", text, count=1)
    text = _ICON.sub(lambda found: f'<link rel="icon" href="{_data_url(PAGE / found[1], "image/svg+xml")}" />', text)
    text = _STYLE.sub(lambda found: f"<style>\n{(PAGE / found[1]).read_text(encoding='utf-8')}</style>", text)
    text, count = _SCRIPT.subn(lambda found: _scripts(found[1], answers), text)
    if count != 1 or 'src="page/' in text or 'href="page/' in text:
        raise InternalError("index.html loads something in a way that an export does not know")
    return text


def _scripts(first: str, answers: Mapping[str, Any]) -> str:
    """The answers, all modules as an import map has them, and the script that unpacks these and begins with the first."""
    modules = {}
    for file in sorted(PAGE.rglob("*.js")):
        name = file.relative_to(PAGE).as_posix()
        source = _IMPORT.sub(lambda found, name=name: _absolute(found, name), file.read_text(encoding="utf-8"))  # type: ignore[misc]
        modules[f"lens/{name}"] = f"data:text/javascript,{quote(source, safe=_AS_THEY_ARE)}"
    begin = (PAGE / "in_file.js").read_text(encoding="utf-8").replace("export ", "")
    return "\n    ".join(
        [
            _element("chainrule-answers", packed(answers)),
            _element("chainrule-modules", _as_json(modules)),
            f'<script>\n{{\n{begin}\nbegin("lens/{first}");\n}}\n</script>',
        ]
    )


def _element(name: str, content: bytes) -> str:
    """An element with bytes, which nothing in them can end: as base64, whose signs mean nothing in HTML."""
    text = base64.b64encode(zlib.compress(content, 9)).decode()
    return f'<script type="application/octet-stream" id="{name}">{text}</script>'


def packed(answers: Mapping[str, Any]) -> bytes:
    """Answers as ``page/in_file.js`` reads them: JSON, and behind it the numbers of all arrays, each once."""
    known: dict[bytes, tuple[int, list[int] | None]] = {}  # where numbers begin, and of which matrix the transpose is there
    parts, tensors, size = [], {}, 0
    for path, answer in answers["tensors"].items():
        header, body = json.loads(answer.headers[TENSOR_HEADER]), bytes(answer.body)
        shape = header["shape"]
        if body not in known and len(shape) == 2:
            begin, of = known.get(np.frombuffer(body, "<f4").reshape(shape).T.tobytes(), (0, shape))
            if of is None:
                known[body] = begin, shape
        if body not in known:
            known[body] = size, None
            parts.append(body)
            size += len(body) // 4
        tensors[path] = dict(zip(("header", "begin", "matrix"), (header, *known[body]), strict=True))
    text = _as_json({"json": answers["json"], "tensors": tensors})
    text += b" " * (-len(text) % 4)  # as a browser takes floats only from where a multiple of 4 bytes is before them
    return b"".join([len(text).to_bytes(4, "little"), text, *parts])


def _absolute(found: re.Match[str], importer: str) -> str:
    """An import of a path beside a module as one of a name in the import map, as a data URL has nothing beside it."""
    name = posixpath.normpath(posixpath.join(posixpath.dirname(importer), found[3]))
    return f'{found[1]}"lens/{name}"'


def _as_json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":")).encode()


def _as_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _data_url(file: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
