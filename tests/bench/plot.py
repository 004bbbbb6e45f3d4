"""The figures of "backlog" as an SVG: what a growing backlog does to throughput and memory. Pure."""

import math

WIDTH, HEIGHT = 760, 300
TOP, BOTTOM = 52, 46
PANELS = (  # left edge, width of the axes, title, unit, series: what, its name, colour
    (62, 240, "Throughput", "a second", (
        ("POST /ingest, 64 connections", "POST /ingest", "#3584e4"),
        ("GET /status, 64 connections", "GET /status", "#e66100"),
        ("dispatch, simulate:0s, 64 at a time", "batches out", "#2a9d6e"))),
    (450, 206, "Resident memory", "MiB", (
        ("scheduler, resident at the most", "scheduler", "#a371f7"),
        ("gateway, resident at the most", "gateway", "#1b9aaa"))),
)
STYLE = """text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-weight:600;font-size:13px}
.axis{stroke:#8c959f;fill:none}.grid{stroke:#8c959f;stroke-opacity:.25}.series{fill:none;stroke-width:2}
@media(prefers-color-scheme:dark){text{fill:#9aa5b1}}"""
LABEL_GAP = 15


def amount(value):
    for unit, size in ((" M", 1e6), (" k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def step(top):
    """A round distance between lines of the grid, of which there are three to six."""
    power = 10 ** math.floor(math.log10(top / 3))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= top / 3)


def apart(places):
    """The same heights, in the same order, moved so far that texts there do not overlap."""
    order = sorted(range(len(places)), key=lambda at: places[at])
    moved = list(places)
    for before, at in zip(order, order[1:]):
        moved[at] = max(moved[at], moved[before] + LABEL_GAP)
    return moved


def panel(left, width, title, unit, series, rows):
    points = {what: [(row["waiting"], row["figures"]["value"]) for row in rows if row["what"] == what and row["figures"]]
              for what, _, _ in series}
    sizes = sorted({size for line in points.values() for size, _ in line})
    most = max((figure["max"] for line in points.values() for _, figure in line), default=1)
    grid = step(most)
    top = math.ceil(most / grid) * grid
    height = HEIGHT - TOP - BOTTOM

    def x(size):
        return left + width * (sizes.index(size) + 0.5) / len(sizes)

    def y(value):
        return TOP + height * (1 - value / top)

    out = [f'<text class="title" x="{left}" y="{TOP - 30}">{title}</text>', f'<text x="{left}" y="{TOP - 14}">{unit}</text>']
    for at in range(round(top / grid) + 1):
        out.append(f'<path class="{"grid" if at else "axis"}" d="M{left} {y(at * grid):.1f}h{width}"/>')
        out.append(f'<text x="{left - 8}" y="{y(at * grid) + 4:.1f}" text-anchor="end">{amount(at * grid)}</text>')
    for size in sizes:
        out.append(f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{amount(size)}</text>')
    out.append(f'<text x="{left + width / 2}" y="{HEIGHT - 8}" text-anchor="middle">ingestions waiting</text>')

    ends = apart([y(points[what][-1][1]["median"]) + 4 if points[what] else HEIGHT for what, _, _ in series])
    for (what, name, colour), end in zip(series, ends):
        if points[what]:
            line = " ".join(f"{x(size):.1f},{y(figure['median']):.1f}" for size, figure in points[what])
            out.append(f'<polyline class="series" stroke="{colour}" points="{line}"/>')
            for size, figure in points[what]:
                out.append(f'<path stroke="{colour}" stroke-width="1.5" stroke-opacity=".6" '
                           f'd="M{x(size):.1f} {y(figure["min"]):.1f}V{y(figure["max"]):.1f}"/>')
                out.append(f'<circle cx="{x(size):.1f}" cy="{y(figure["median"]):.1f}" r="3.5" fill="{colour}"/>')
            out.append(f'<text x="{left + width + 8}" y="{end:.1f}" style="fill:{colour}">{name}</text>')
    return out


def svg(results):
    rows = [row for row in results["rows"] if row["group"] == "backlog"]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'role="img" aria-label="Throughput and resident memory against the number of ingestions that wait">',
           f"<style>{STYLE}</style>"]
    for left, width, title, unit, series in PANELS:
        out += panel(left, width, title, unit, series, rows)
    return "\n".join([*out, "</svg>"]) + "\n"
