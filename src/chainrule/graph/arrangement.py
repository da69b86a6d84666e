"""Arranges the boxes and edges of a drawing: a layered layout of a directed acyclic graph.

The method is that of Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures" (1981).

It has these steps, each a function. Every box gets a layer, after those of all its inputs, and an edge that passes over layers
gets a point in each of them. The order within layers is improved until few edges cross. Boxes and points get coordinates across
the flow. Edges get ports, which are the places where they enter boxes, and layers get coordinates along the flow. All
coordinates are *along* and *across* the flow until ``arrange`` returns, so that the same code serves both directions.

Nothing overlaps: the boxes of a layer keep a distance, and edges bend only in the stretch between two layers that is kept free
for bends, and run straight past boxes and labels.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from chainrule.errors import InternalError

Direction = Literal["right", "down"]
Point = tuple[float, float]
Size = tuple[float, float]

BOX_GAP = 22.0  # between two boxes of one layer
LINE_GAP = 16.0  # between two edges, or an edge and a box, that pass through one layer
PORT_ROOM = 8.0  # on each side of the place where an edge enters a box
BEND_SHORTEST, BEND_LONGEST, BEND_PER_JUMP = 34.0, 90.0, 0.2  # the stretch between layers in which edges bend
ORDER_ROUNDS, PLACE_ROUNDS, LINE_ROUNDS, STRAIGHT_ROUNDS = 16, 8, 6, 3  # repetitions of each improvement


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge from box ``source`` to box ``target``.

    ``label`` is the width and height of a space to keep free beside the edge's last stretch: below it where the flow
    goes right, right of it where the flow goes down.
    """

    source: int
    target: int
    label: Size = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Layout:
    """A finished drawing: the top left corner of each box, and the points of each edge from its source to its target.

    Between two points an edge is straight where they agree in one coordinate, and bends where they agree in none.
    """

    width: float
    height: float
    corners: list[Point]
    routes: list[list[Point]]


@dataclass
class _Web:
    """Boxes (numbered as given) and the points of long edges (numbered after them), layer by layer."""

    boxes: int
    layer_of: list[int]
    layers: list[list[int]]
    chains: list[list[int]]  # per edge, the points that it passes through
    before: list[list[tuple[int, float]]] = field(default_factory=list)  # neighbours in the layer before, with weights
    after: list[list[tuple[int, float]]] = field(default_factory=list)
    reach: list[tuple[float, float]] = field(default_factory=list)  # how far each extends across, to either side

    def distance(self, first: int, second: int) -> float:
        """The least distance between the centres of two neighbours in a layer."""
        gap = BOX_GAP if first < self.boxes and second < self.boxes else LINE_GAP
        return self.reach[first][1] + gap + self.reach[second][0]


def arrange(sizes: Sequence[Size], edges: Sequence[Edge], direction: Direction = "right") -> Layout:
    """Place boxes of the given sizes (width, height) and route the edges. The same input always gives the same drawing.

    Raises:
        InternalError: the edges form a cycle, which a computation cannot have.
    """
    if not sizes:
        return Layout(0.0, 0.0, [], [])
    swap = direction == "down"
    along = [height if swap else width for width, height in sizes]
    across = [width if swap else height for width, height in sizes]
    labels = [(height, width) if swap else (width, height) for width, height in (edge.label for edge in edges)]

    web = _web(len(sizes), edges)
    web.reach = _reach(web, across, edges, labels)
    _reorder(web)
    centres = _place(web)
    ports = _ports(web, across, centres, edges, labels)
    starts, routes, total = _along(web, along, centres, ports, edges, labels)

    corners = [(start, centre - size / 2) for start, centre, size in zip(starts, centres, across, strict=False)]
    lowest = min(centre - self_reach[0] for centre, self_reach in zip(centres, web.reach, strict=True))
    highest = max(centre + self_reach[1] for centre, self_reach in zip(centres, web.reach, strict=True))

    def drawn(point: Point) -> Point:
        return (point[1] - lowest, point[0]) if swap else (point[0], point[1] - lowest)

    width, height = (highest - lowest, total) if swap else (total, highest - lowest)
    return Layout(width, height, [drawn(point) for point in corners], [[drawn(point) for point in route] for route in routes])


def room_for_ports(labels: Sequence[Size], direction: Direction = "right") -> float:
    """The least length of a box's side at which edges with these labels can enter it."""
    rooms = [_port_room(width if direction == "down" else height) for width, height in labels]
    if not rooms:
        return 0.0
    # The last label may reach out past the box: see _reach.
    return sum(rooms) + PORT_ROOM * len(rooms) - min(rooms) + PORT_ROOM


def _port_room(label: float) -> float:
    """The room to keep free behind a port for its label; before a port, PORT_ROOM is always enough."""
    return max(PORT_ROOM, label)


# Layers


def _web(boxes: int, edges: Sequence[Edge]) -> _Web:
    """Boxes and the points of long edges, in layers, each linked to its neighbours in the layers before and after."""
    inputs: list[list[int]] = [[] for _ in range(boxes)]
    users: list[list[int]] = [[] for _ in range(boxes)]
    for edge in edges:
        inputs[edge.target].append(edge.source)
        users[edge.source].append(edge.target)
    layer_of, branches = _layering(inputs, users)
    chains = _chains(layer_of, edges)

    layers: list[list[int]] = [[] for _ in range(max(layer_of) + 1)]
    for point, layer in enumerate(layer_of):
        layers[layer].append(point)
    web = _Web(boxes, layer_of, layers, chains)
    _link(web, edges, inputs, branches)
    # Boxes start in the given order, in which inputs come first; the points of a long edge start next to its source.
    start_of = {point: edge.source - 0.5 for edge, chain in zip(edges, chains, strict=True) for point in chain}
    for members in layers:
        members.sort(key=lambda point: start_of.get(point, point))
    return web


def _layering(inputs: list[list[int]], users: list[list[int]]) -> tuple[list[int], list[tuple[float, int]]]:
    """The layer of each box, and the size of its branch, which is the boxes that it is computed from.

    A box is placed right after the last of its inputs. If nothing else uses its branch, as for a parameter, it is placed right
    before its first user instead. The size of a branch is its number of leaves (infinite if other boxes use them too) and its
    length. Where branches meet, the largest is the trunk, and the others are said to hang on it.
    """
    waiting = [len(sources) for sources in inputs]
    order = [box for box, count in enumerate(waiting) if count == 0]
    for box in order:
        for user in users[box]:
            waiting[user] -= 1
            if waiting[user] == 0:
                order.append(user)
    if len(order) < len(inputs):
        raise InternalError(f"cannot lay out a graph with a cycle: {len(inputs) - len(order)} boxes wait for each other")

    layer_of = [0] * len(inputs)
    branches = [(1.0, 0)] * len(inputs)
    for box in order:
        layer_of[box] = max((layer_of[source] + 1 for source in inputs[box]), default=0)
        if inputs[box]:
            leaves = sum(branches[source][0] if len(set(users[source])) == 1 else math.inf for source in inputs[box])
            branches[box] = leaves, layer_of[box]
    for box in reversed(order):
        if branches[box][0] < math.inf and users[box]:
            layer_of[box] = min(layer_of[user] for user in users[box]) - 1
    return layer_of, branches


def _chains(layer_of: list[int], edges: Sequence[Edge]) -> list[list[int]]:
    """The points of long edges, one in each layer that an edge passes; edges from one box share points as long as they can.

    Appends the layers of the new points to ``layer_of``.
    """
    shared: dict[tuple[int, int], int] = {}
    chains: list[list[int]] = []
    for edge in edges:
        chain = []
        for layer in range(layer_of[edge.source] + 1, layer_of[edge.target]):
            if (edge.source, layer) not in shared:
                shared[edge.source, layer] = len(layer_of)
                layer_of.append(layer)
            chain.append(shared[edge.source, layer])
        chains.append(chain)
    return chains


def _link(web: _Web, edges: Sequence[Edge], inputs: list[list[int]], branches: list[tuple[float, int]]) -> None:
    """Fill in the neighbours of each box and point, each with the weight of keeping the two in a straight line."""
    web.before = [[] for _ in web.layer_of]
    web.after = [[] for _ in web.layer_of]
    seen: set[tuple[int, int]] = set()
    for edge, chain in zip(edges, web.chains, strict=True):
        stops = [edge.source, *chain, edge.target]
        hangs_on = branches[edge.source] < max(branches[other] for other in inputs[edge.target])
        for first, second in pairwise(stops):
            if (first, second) in seen:
                continue
            seen.add((first, second))
            long_edge = (first >= web.boxes) + (second >= web.boxes)
            weight = (0.1 if hangs_on else 3.0, 0.5 if hangs_on else 1.0, 8.0)[long_edge]
            web.after[first].append((second, weight))
            web.before[second].append((first, weight))


# Order within layers


def _reorder(web: _Web) -> None:
    """Sweep down and up, sorting each layer by the mean place of its neighbours; keep the order with the fewest crossings."""
    best, fewest = [list(layer) for layer in web.layers], _crossings(web)
    rounds = max(4, min(ORDER_ROUNDS, ORDER_ROUNDS * 40_000 // len(web.layer_of)))  # fewer where each takes long
    for sweep in range(rounds):
        if fewest == 0:
            break
        downward = sweep % 2 == 0
        steps = list(pairwise(web.layers))
        for upper, lower in steps if downward else reversed(steps):
            if downward:
                _sort_by_neighbours(lower, upper, web.before)
            else:
                _sort_by_neighbours(upper, lower, web.after)
        if (crossings := _crossings(web)) < fewest:
            best, fewest = [list(layer) for layer in web.layers], crossings
    web.layers = best


def _sort_by_neighbours(layer: list[int], beside: list[int], neighbours: list[list[tuple[int, float]]]) -> None:
    """Sort ``layer`` by the mean place of each point's neighbours in the adjacent layer ``beside``."""
    place = {point: (position + 0.5) / len(beside) for position, point in enumerate(beside)}
    wanted = {}
    for position, point in enumerate(layer):
        places = [place[neighbour] for neighbour, _ in neighbours[point]]
        wanted[point] = sum(places) / len(places) if places else (position + 0.5) / len(layer)
    layer.sort(key=wanted.__getitem__)


def _crossings(web: _Web) -> int:
    """How many pairs of links between adjacent layers cross."""
    count = 0
    for first, second in pairwise(web.layers):
        place = {point: position for position, point in enumerate(second)}
        ends: list[int] = []
        for point in first:
            targets = sorted(place[neighbour] for neighbour, _ in web.after[point])
            count += sum(len(ends) - bisect_right(ends, target) for target in targets)
            for target in targets:
                insort(ends, target)
    return count


# Coordinates across the flow


def _reach(web: _Web, across: Sequence[float], edges: Sequence[Edge], labels: Sequence[Size]) -> list[tuple[float, float]]:
    """How far each box extends to either side: half its size, or more if the label of the last entering edge needs it."""
    entering = Counter(edge.target for edge in edges)
    reach = [(size / 2, size / 2) for size in across]
    for edge, (_, label) in zip(edges, labels, strict=True):
        before, after = reach[edge.target]
        last_port = 0.0 if entering[edge.target] == 1 else before - PORT_ROOM  # one edge enters at the centre
        reach[edge.target] = before, max(after, last_port + label)
    return reach + [(0.0, 0.0)] * (len(web.layer_of) - web.boxes)


def _place(web: _Web) -> list[float]:
    """The coordinate across the flow of every box's and point's centre: close to its neighbours, with long lines straight."""
    centres = [0.0] * len(web.layer_of)
    for layer in web.layers:
        _settle(web, layer, centres, [(0.0, 1.0)] * len(layer))
    for sweep in range(PLACE_ROUNDS):
        downward = sweep % 2 == 0
        neighbours = web.before if downward else web.after
        for layer in web.layers if downward else reversed(web.layers):
            _settle(web, layer, centres, [_pull(point, neighbours[point], centres) for point in layer])
    lines = _lines(web)
    _pull_straight(web, lines, centres)
    for _ in range(STRAIGHT_ROUNDS):  # a line that moved may have made room for another
        _straighten(web, lines, centres)
    return centres


def _pull(point: int, neighbours: list[tuple[int, float]], centres: list[float]) -> tuple[float, float]:
    """The weighted mean of the neighbours' centres, which is the best place for a point, and the sum of their weights."""
    total = sum(weight for _, weight in neighbours)
    if total == 0:
        return centres[point], 0.02
    return sum(centres[other] * weight for other, weight in neighbours) / total, total


def _settle(web: _Web, layer: list[int], centres: list[float], pulls: list[tuple[float, float]]) -> None:
    """Move the points of a layer as close to their wanted places as the distances between them allow, by least squares.

    With the required distances subtracted, the places must be a sequence that never falls: this is isotonic regression,
    solved by pooling adjacent points that are in each other's way.
    """
    offsets = [0.0]
    for first, second in pairwise(layer):
        offsets.append(offsets[-1] + web.distance(first, second))
    pools: list[tuple[float, float, int]] = []  # mean, weight, count
    for (want, weight), offset in zip(pulls, offsets, strict=True):
        pool = (want - offset, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, mass, count = pools.pop()
            together = mass + pool[1]
            pool = ((mean * mass + pool[0] * pool[1]) / together, together, count + pool[2])
        pools.append(pool)
    position = 0
    for mean, _, count in pools:
        for _ in range(count):
            centres[layer[position]] = mean + offsets[position]
            position += 1


def _lines(web: _Web) -> list[list[int]]:
    """Paths that should be straight: each link is the single heaviest link of both its ends. Every point is in one path."""

    def heaviest(links: list[tuple[int, float]]) -> int:
        ranked = sorted(links, key=lambda link: -link[1])
        unique = ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1])
        return ranked[0][0] if unique else -1

    following = [heaviest(links) for links in web.after]
    leading = [heaviest(links) for links in web.before]
    lines = []
    for point in (point for layer in web.layers for point in layer):
        if leading[point] >= 0 and following[leading[point]] == point:
            continue
        line = [point]
        while (after := following[line[-1]]) >= 0 and leading[after] == line[-1]:
            line.append(after)
        lines.append(line)
    return sorted(lines, key=lambda line: -len(line))


def _pull_straight(web: _Web, lines: list[list[int]], centres: list[float]) -> None:
    """Move each line as a whole towards the neighbours of its points; longer lines have more weight."""
    line_of = {point: number for number, line in enumerate(lines) for point in line}
    for _ in range(LINE_ROUNDS):
        pulls: list[tuple[float, float]] = []
        for number, line in enumerate(lines):
            wants = [
                (centres[other], weight)
                for point in line
                for other, weight in (*web.before[point], *web.after[point])
                if line_of[other] != number
            ]
            wants += [(sum(centres[point] for point in line) / len(line), 0.5 * len(line))]
            mass = sum(weight for _, weight in wants)
            pulls.append((sum(want * weight for want, weight in wants) / mass, mass * len(line) ** 2))
        for layer in web.layers:
            _settle(web, layer, centres, [pulls[line_of[point]] for point in layer])


def _straighten(web: _Web, lines: list[list[int]], centres: list[float]) -> None:
    """Make lines exactly straight where the neighbours of their points leave room, with as few bends as possible elsewhere."""
    place = {point: position for layer in web.layers for position, point in enumerate(layer)}

    def room(point: int) -> tuple[float, float]:
        layer, position = web.layers[web.layer_of[point]], place[point]
        low, high = -math.inf, math.inf
        if position > 0:
            low = centres[layer[position - 1]] + web.distance(layer[position - 1], point)
        if position + 1 < len(layer):
            high = centres[layer[position + 1]] - web.distance(point, layer[position + 1])
        return low, high

    def make_straight(run: list[int], low: float, high: float) -> None:
        middle = sorted(centres[point] for point in run)[len(run) // 2]
        for point in run:
            centres[point] = min(max(middle, low), high)

    for line in lines:
        run: list[int] = []
        low, high = -math.inf, math.inf
        for point in line:
            least, most = room(point)
            if run and max(low, least) > min(high, most):
                make_straight(run, low, high)
                run, low, high = [], -math.inf, math.inf
            run.append(point)
            low, high = max(low, least), min(high, most)
        make_straight(run, low, high)


# Ports, and coordinates along the flow


def _ports(
    web: _Web, across: Sequence[float], centres: list[float], edges: Sequence[Edge], labels: Sequence[Size]
) -> list[float]:
    """Where each edge enters its target, across the flow: as straight as possible, in order, with room for its label."""
    entering: dict[int, list[tuple[float, int]]] = {}
    for number, (edge, chain) in enumerate(zip(edges, web.chains, strict=True)):
        comes_from = centres[chain[-1] if chain else edge.source]
        entering.setdefault(edge.target, []).append((comes_from, number))
    ports = [0.0] * len(edges)
    for target, arrivals in entering.items():
        arrivals.sort()
        rooms = [_port_room(labels[number][1]) for _, number in arrivals]
        centre, half = centres[target], across[target] / 2
        lowest = centre - half + PORT_ROOM
        highest = centre + min(half - PORT_ROOM, web.reach[target][1] - rooms[-1])
        offsets = [0.0]
        for room in rooms[:-1]:
            offsets.append(offsets[-1] + room + PORT_ROOM)
        squeeze = 1.0
        if lowest + offsets[-1] > highest:  # more edges than the side has room for
            lowest, highest = min(lowest, centre), max(highest, centre)
            squeeze = min(1.0, (highest - lowest) / offsets[-1]) if offsets[-1] else 1.0
        offsets = [offset * squeeze for offset in offsets]
        wishes = _never_falling([wish - offset for (wish, _), offset in zip(arrivals, offsets, strict=True)])
        for (_, number), wish, offset in zip(arrivals, wishes, offsets, strict=True):
            ports[number] = min(max(wish, lowest), highest - offsets[-1]) + offset
    return ports


def _never_falling(wishes: list[float]) -> list[float]:
    """The sequence closest to ``wishes``, by least squares, that never falls: isotonic regression."""
    pools: list[tuple[float, int]] = []
    for wish in wishes:
        mean, count = wish, 1
        while pools and pools[-1][0] > mean:
            other, many = pools.pop()
            mean, count = (other * many + mean * count) / (many + count), many + count
        pools.append((mean, count))
    return [mean for mean, count in pools for _ in range(count)]


def _along(
    web: _Web,
    along: Sequence[float],
    centres: list[float],
    ports: list[float],
    edges: Sequence[Edge],
    labels: Sequence[Size],
) -> tuple[list[float], list[list[Point]], float]:
    """Where each box starts along the flow, the routes of the edges, and the total length of the drawing."""
    count = len(web.layers)
    jumps, label_rooms = [0.0] * count, [0.0] * count  # in the stretch before each layer
    for edge, chain, port, label in zip(edges, web.chains, ports, labels, strict=True):
        layer = web.layer_of[edge.target]
        label_rooms[layer] = max(label_rooms[layer], label[0])
        stops = [*(centres[stop] for stop in (edge.source, *chain)), port]
        for step, (first, second) in enumerate(pairwise(stops)):
            jumped = web.layer_of[edge.source] + 1 + step
            jumps[jumped] = max(jumps[jumped], abs(second - first))

    bent, begins, ends = [0.0] * count, [0.0] * count, [0.0] * count  # where the bends end, where the layer begins and ends
    for layer in range(count):
        if layer:
            bent[layer] = ends[layer - 1] + min(max(BEND_SHORTEST, BEND_PER_JUMP * jumps[layer]), BEND_LONGEST)
        begins[layer] = bent[layer] + label_rooms[layer]
        thickest = max((along[box] for box in web.layers[layer] if box < web.boxes), default=0.0)
        ends[layer] = begins[layer] + thickest
    starts = []
    for box in range(web.boxes):
        layer = web.layer_of[box]
        starts.append((begins[layer] + ends[layer] - along[box]) / 2)

    routes = []
    for edge, chain, port in zip(edges, web.chains, ports, strict=True):
        route = [(starts[edge.source] + along[edge.source], centres[edge.source])]
        for stop in (edge.source, *chain):
            if stop != edge.source:
                route.append((bent[web.layer_of[stop]], centres[stop]))
            route.append((ends[web.layer_of[stop]], centres[stop]))
        route += [(bent[web.layer_of[edge.target]], port), (starts[edge.target], port)]
        routes.append(_without_repeats(route))
    return starts, routes, ends[-1]


def _without_repeats(route: list[Point]) -> list[Point]:
    """Drop points that a straight line passes anyway."""
    kept = [route[0]]
    for point, following in zip(route[1:], [*route[2:], None], strict=True):
        straight_on = following is not None and kept[-1][1] == point[1] == following[1]
        if not straight_on and point != kept[-1]:
            kept.append(point)
    return kept
