"""What was measured, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.pairs import Pairs, Run, geometric_mean


@dataclass
class Row:
    """One workload. ``cold`` and ``cached``: our runs with an empty cache of machine code, and with a full one."""

    name: str
    mode: str
    pairs: Pairs
    cold: Run
    cached: Run
    share: float

    @property
    def memory_ratio(self) -> float:
        return self.pairs.median("ours", "peak_rss_mb") / self.pairs.median("theirs", "peak_rss_mb")


def table(rows: Sequence[Row], facts: Sequence[str]) -> str:
    """Markdown, readable as plain text."""
    head = ["workload", "faster by", "spread", "ours ms", "PyTorch ms", "its mode", "first step s", "cached s", "its first s"]
    head += ["compile s", "cached", "memory MB", "its MB", "share of peak"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        low, high = row.pairs.spread
        cells = [
            row.name,
            f"{row.pairs.ratio:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{row.pairs.median('ours', 'median_ms'):.2f}",
            f"{row.pairs.median('theirs', 'median_ms'):.2f}",
            row.mode,
            f"{row.cold['first_step_s']:.2f}",
            f"{row.cached['first_step_s']:.2f}",
            f"{row.pairs.median('theirs', 'first_step_s'):.2f}",
            f"{row.cold['compile_s']:.2f}",
            f"{100 * row.cached['compile_s'] / max(row.cold['compile_s'], 1e-9):.0f}%",
            f"{row.pairs.median('ours', 'peak_rss_mb'):.0f}",
            f"{row.pairs.median('theirs', 'peak_rss_mb'):.0f}",
            f"{100 * row.share:.0f}%",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    mean = geometric_mean([row.pairs.ratio for row in rows])
    slower = [row.name for row in rows if row.pairs.ratio < 1]
    lines += ["", f"Geometric mean: {mean:.2f} times as fast.", f"Slower on: {', '.join(slower) or 'none'}."]
    return "\n".join([*lines, "", *facts]) + "\n"


_STYLE = """
.bg{fill:#fff}.ink{fill:#222}.faint{fill:#666}.one{stroke:#666;stroke-dasharray:4 3}.win{fill:#0072b2}.lose{fill:#d55e00}
.whisker{stroke:#222;stroke-width:1.5}text{font:13px system-ui,sans-serif}
@media (prefers-color-scheme:dark){.bg{fill:#16181d}.ink{fill:#eee}.faint{fill:#aaa}.one{stroke:#aaa}.win{fill:#56b4e9}
.lose{fill:#e69f00}.whisker{stroke:#eee}}
"""


def picture(rows: Sequence[Row]) -> str:
    """Bars: how many times as fast as PyTorch's best mode, with the spread over the pairs; 1 is a tie."""
    left, top, row_height, plot = 130, 66, 34, 470
    largest = max([2.0, *(row.pairs.spread[1] for row in rows)]) * 1.05
    height, width = top + row_height * len(rows) + 46, left + plot + 110

    def x(ratio: float) -> float:
        return left + plot * ratio / largest

    parts = [
        '<text class="ink" x="20" y="28" font-weight="bold">Training steps: chainrule against PyTorch, float32</text>',
        '<text class="faint" x="20" y="48">times as fast as its best mode; bars: median of pairs, lines: their spread</text>',
    ]
    for place, row in enumerate(rows):
        y, (low, high), ratio = top + place * row_height, row.pairs.spread, row.pairs.ratio
        kind = "win" if ratio >= 1 else "lose"
        middle = y + 12
        parts.append(f'<text class="ink" x="{left - 10}" y="{y + 16}" text-anchor="end">{escape(row.name)}</text>')
        parts.append(f'<rect class="{kind}" x="{left}" y="{y}" width="{x(ratio) - left:.1f}" height="24" rx="2"/>')
        parts.append(f'<line class="whisker" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{middle}" y2="{middle}"/>')
        parts.append(f'<text class="ink" x="{x(high) + 8:.1f}" y="{y + 16}" font-weight="bold">{ratio:.2f}</text>')
    bottom = top + row_height * len(rows)
    parts.append(f'<line class="one" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{top - 6}" y2="{bottom}"/>')
    parts.append(f'<text class="faint" x="{x(1):.1f}" y="{bottom + 18}" text-anchor="middle">1 = PyTorch</text>')
    words = "; ".join(f"{row.name} {row.pairs.ratio:.2f}" for row in rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>Times as fast as PyTorch: {escape(words)}</title><style>{_STYLE}</style>"
        f'<rect class="bg" width="{width}" height="{height}"/>{"".join(parts)}</svg>\n'
    )
