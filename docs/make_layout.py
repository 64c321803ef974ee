"""Draw which package imports which, from the imports themselves: `python docs/make_layout.py`.

A package stands above all that it imports, as near to its importers as that allows. An arrow is
left out where others lead the same way.
"""

from __future__ import annotations

import ast
import html
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import fsum
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "fhi_al"
PICTURE = Path(__file__).parent / "images" / "layout.svg"

GROUPS = {
    "what is kept": ("#dbeafe", "#3b6fb6", ("atoms", "record", "folder")),
    "what is decided": ("#fde9c9", "#b7791f", ("procedures", "settings")),
    "the science": ("#d9f2e3", "#2f855a", ("md", "fast", "ensemble", "reference")),
    "the work": ("#f9dfe3", "#b4495c", ("mpi", "handlers", "workers", "run")),
    "what is told": ("#e8e0f7", "#6b4fa3", ("analysis", "monitor", "report", "planning", "cli")),
}
"""What packages have in common -> their colours, of the box and of its edge."""

WIDTH, HEIGHT, LANE = 240, 58, 22  # of a box; width that an arrow takes as it passes a floor
GAP, STOREY, MARGIN = 16, 92, 20  # between boxes; from floor to floor; around all
LINE = 39  # characters in a line of a box

Arrow = tuple[str, str]
Node = str | tuple[str, str, int]
"""A package, or where an arrow passes a floor: (from, to, floor)."""


def modules() -> dict[str, ast.Module]:
    """All modules of the program, parsed."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree: ast.Module) -> Iterator[str]:
    """Each module that a module imports, inside of functions too, and for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "fhi_al":
                yield from (f"fhi_al.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def room(module: str) -> str | None:
    """The package or loose module of ours that a module belongs to."""
    program, *parts = module.split(".")
    return parts[0] if program == "fhi_al" and parts else None


def rooms() -> dict[str, dict[str, str]]:
    """Packages and loose modules -> those that they import, each with an import that does it."""
    trees = modules()
    found: dict[str, dict[str, str]] = {here: {} for here in map(room, trees) if here}
    for module, tree in trees.items():
        here = room(module)
        for name in imports(tree):
            there = room(name)
            if here in found and there in found and there != here:
                found[here][there] = f"{module} imports {name}"
    return found


def purposes() -> dict[str, str]:
    """What each package is for, as its docstring begins."""
    found = {}
    for face in sorted(SOURCE.glob("*/__init__.py")):
        text = ast.get_docstring(ast.parse(face.read_text(encoding="utf-8")))
        assert text, f"{face} says nothing"
        found[face.parent.name] = text.splitlines()[0]
    return found


def picture() -> str:
    """The whole picture, SVG."""
    words = purposes()
    imported = {here: set(there) & set(words) for here, there in rooms().items() if here in words}
    arrows = needed(imported)
    floors = ordered(arrows, storeys(imported))
    places = placed(arrows, floors)
    return drawn(words, arrows, floors, places)


def needed(imported: Mapping[str, set[str]]) -> list[Arrow]:
    """The arrows that don't follow from others."""

    def below(package: str) -> set[str]:
        return imported[package].union(*(below(other) for other in imported[package]))

    return [
        (package, other)
        for package in sorted(imported)
        for other in sorted(imported[package])
        if not any(other in below(between) for between in imported[package])
    ]


def storeys(imported: Mapping[str, set[str]]) -> dict[str, int]:
    """The floor of each package: below its importers, as high as that allows; 0 is the top."""

    def floor(package: str) -> int:
        importers = [other for other, packages in imported.items() if package in packages]
        return max((floor(other) + 1 for other in importers), default=0)

    return {package: floor(package) for package in sorted(imported)}


def stations(arrow: Arrow, floor: Mapping[str, int]) -> list[Node]:
    """Where an arrow goes along: a package, the floors between, a package."""
    above, below = arrow
    passed: list[Node] = [(above, below, n) for n in range(floor[above] + 1, floor[below])]
    return [above, *passed, below]


def ordered(arrows: Sequence[Arrow], floor: Mapping[str, int]) -> list[list[Node]]:
    """All floors from the top, the nodes of each in an order that crosses few arrows."""
    floors: list[list[Node]] = [[] for _ in range(max(floor.values()) + 1)]
    for package in floor:
        floors[floor[package]].append(package)
    links = [pair for arrow in arrows for pair in pairwise(stations(arrow, floor))]
    for arrow in arrows:
        for node in stations(arrow, floor)[1:-1]:
            floors[int(node[2])].append(node)
    best, fewest = floors, crossings(floors, links)
    for sweep in range(24):
        floors = [list(nodes) for nodes in floors]
        down = sweep % 2 == 0
        for number in range(len(floors)) if down else reversed(range(len(floors))):
            beside = floors[number - 1 if down else number + 1 - len(floors)]
            at = {node: index / len(beside) for index, node in enumerate(beside)}
            own = floors[number]
            keys = {
                node: mean(neighbours(node, links, at), index / len(own))
                for index, node in enumerate(own)
            }
            floors[number] = sorted(own, key=keys.__getitem__)
        if (count := crossings(floors, links)) < fewest:
            best, fewest = floors, count
    return best


def neighbours(
    node: Node, links: Sequence[tuple[Node, Node]], at: Mapping[Node, float]
) -> list[float]:
    """Where those stand that a node is linked with, of those whose places are given."""
    linked = [b if a == node else a for a, b in links if node in (a, b)]
    return [at[other] for other in linked if other in at]


def mean(values: Sequence[float], default: float) -> float:
    """The mean of some values, if there are any."""
    return fsum(values) / len(values) if values else default


def crossings(floors: Sequence[Sequence[Node]], links: Sequence[tuple[Node, Node]]) -> int:
    """How often arrows cross between floors."""
    at = {node: index for nodes in floors for index, node in enumerate(nodes)}
    on = {node: number for number, nodes in enumerate(floors) for node in nodes}
    return sum(
        on[a] == on[c] and (at[a] - at[c]) * (at[b] - at[d]) < 0
        for index, (a, b) in enumerate(links)
        for c, d in links[:index]
    )


def placed(arrows: Sequence[Arrow], floors: Sequence[Sequence[Node]]) -> dict[Node, float]:
    """The middle of each node from the left: near to what it is linked with; nothing overlaps."""
    floor = {n: number for number, nodes in enumerate(floors) for n in nodes if isinstance(n, str)}
    links = [pair for arrow in arrows for pair in pairwise(stations(arrow, floor))]
    # A link that is alone at both of its ends is to be straight, above all between two floors that
    # an arrow passes.
    begins, ends = (Counter(link[end] for link in links) for end in (0, 1))
    pulls = {
        (a, b): 1 / (begins[a] * ends[b]) ** 2 if {type(a), type(b)} != {tuple} else 30.0
        for a, b in links
    }
    places: dict[Node, float] = {}
    for nodes in floors:
        spread(nodes, [(0.0, 1.0)] * len(nodes), places)
    for _ in range(200):
        for nodes in (*floors, *reversed(floors)):
            spread(nodes, [wanted(node, pulls, places) for node in nodes], places)
    left = min(place - size(node) / 2 for node, place in places.items())
    return {node: round(place - left + MARGIN, 1) for node, place in places.items()}


def size(node: Node) -> int:
    """Width of a box, or of an arrow that passes."""
    return WIDTH if isinstance(node, str) else LANE


def wanted(
    node: Node, pulls: Mapping[tuple[Node, Node], float], places: Mapping[Node, float]
) -> tuple[float, float]:
    """Where a node's links pull it to, and how hard."""
    return weighted(
        [(places[b if a == node else a], pull) for (a, b), pull in pulls.items() if node in (a, b)]
    )


def weighted(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The mean of values with weights, and all of the weight."""
    weight = fsum(weight for _, weight in values)
    return fsum(value * weight for value, weight in values) / weight, weight


def spread(
    nodes: Sequence[Node], wanted: Sequence[tuple[float, float]], places: dict[Node, float]
) -> None:
    """Put the nodes of a floor where they are wanted, or where that would collide, side by side."""
    offsets = [0.0]
    for a, b in pairwise(nodes):
        offsets.append(offsets[-1] + (size(a) + size(b)) / 2 + GAP)
    blocks: list[list[tuple[float, float]]] = []
    for (place, pull), offset in zip(wanted, offsets, strict=True):
        blocks.append([(place - offset, pull)])
        while len(blocks) > 1 and weighted(blocks[-2]) > weighted(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    shifts = [weighted(block)[0] for block in blocks for _ in block]
    for node, shift, offset in zip(nodes, shifts, offsets, strict=True):
        places[node] = shift + offset


def drawn(
    words: Mapping[str, str],
    arrows: Sequence[Arrow],
    floors: Sequence[Sequence[Node]],
    places: Mapping[Node, float],
) -> str:
    """Write it as SVG, arrows first: boxes lie on them."""
    floor = {n: number for number, nodes in enumerate(floors) for n in nodes if isinstance(n, str)}
    width = round(max(place + size(node) / 2 for node, place in places.items())) + MARGIN
    height = MARGIN + STOREY * len(floors) - (STOREY - HEIGHT) + 30 + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="system-ui, sans-serif">',
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0,0.5 L8,4 L0,7.5 Z" fill="#7a8394"/></marker>',
        f'<rect width="{width}" height="{height}" rx="10" fill="#fcfcfd" stroke="#d7dbe3"/>',
        '<g fill="none" stroke="#7a8394" stroke-width="1.3">',
        *(curve(arrow, arrows, floor, places) for arrow in arrows),
        "</g>",
        *(box(package, words[package], places[package], floor[package]) for package in floor),
        *legend(width, height - MARGIN),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def top(floor: int) -> int:
    """The upper edge of the boxes of a floor."""
    return MARGIN + STOREY * floor


def curve(
    arrow: Arrow,
    arrows: Sequence[Arrow],
    floor: Mapping[str, int],
    places: Mapping[Node, float],
) -> str:
    """One arrow, straight down where it passes a floor."""
    above, below = arrow
    along = stations(arrow, floor)
    leaving = sorted((places[stations(a, floor)[1]], a) for a in arrows if a[0] == above)
    coming = sorted((places[stations(a, floor)[-2]], a) for a in arrows if a[1] == below)
    x = places[above] + port([a for _, a in leaving], arrow)
    y = top(floor[above]) + HEIGHT
    path = f"M{x:g},{y}"
    for number, node in enumerate(along[1:], floor[above] + 1):
        last = node == below
        to = places[node] + (port([a for _, a in coming], arrow) if last else 0)
        bend = (STOREY - HEIGHT) * 0.6
        path += f" C{x:g},{y + bend:g} {to:g},{top(number) - bend:g} {to:g},{top(number)}"
        x, y = to, top(number) + HEIGHT
        if not last:
            path += f" V{y}"
    return f'<path d="{path}" marker-end="url(#tip)"/>'


def port(beside: Sequence[Arrow], arrow: Arrow) -> float:
    """Where on its edge of a box an arrow begins or ends, from the middle."""
    apart = min(34.0, 0.8 * WIDTH / len(beside))
    return round((beside.index(arrow) - (len(beside) - 1) / 2) * apart, 1)


def box(package: str, words: str, middle: float, floor: int) -> str:
    """A package: its name, and what it is for."""
    fill, edge = next((f, e) for f, e, packages in GROUPS.values() if package in packages)
    x, y = round(middle - WIDTH / 2, 1), top(floor)
    lines = textwrap.wrap(words.rstrip("."), LINE)
    assert len(lines) <= 2, f"too many words for a box: {words}"
    return "\n".join(
        [
            f'<rect x="{x:g}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="{fill}" '
            f'stroke="{edge}"/>',
            f'<text x="{x + 12:g}" y="{y + 19}" font-size="14" font-weight="600" '
            f'fill="#1f2733">{package}</text>',
            *(
                f'<text x="{x + 12:g}" y="{y + 35 + 13 * number}" font-size="10.4" '
                f'fill="#3c4657">{html.escape(line)}</text>'
                for number, line in enumerate(lines)
            ),
        ]
    )


def legend(width: int, y: int) -> Iterator[str]:
    """What the colours mean."""
    step = (width - 2 * MARGIN) / len(GROUPS)
    for number, (name, (fill, edge, _)) in enumerate(GROUPS.items()):
        x = round(MARGIN + number * step, 1)
        yield (
            f'<rect x="{x:g}" y="{y - 10}" width="12" height="12" rx="3" fill="{fill}" '
            f'stroke="{edge}"/>'
        )
        yield f'<text x="{x + 18:g}" y="{y}" font-size="11" fill="#3c4657">{name}</text>'


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
