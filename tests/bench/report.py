"""Results as a table for the terminal, and as one in Markdown. Pure."""

from figures import number

COLUMNS = ("measurement", "of", "median", "unit", "least–most", "p50 ms", "p99 ms", "CPU µs", "switches", "")
LEFT = (0, 1, 3, 7, 9)


def row_as_data(row):
    return {"group": row.group, "what": row.what, "subject": row.subject, "unit": row.unit, "waiting": row.waiting,
            "note": row.note, "targets": row.targets, "figures": row.figures(), "samples": row.samples}


def heading(results):
    machine = results["machine"]
    version = (results["versions"]["sluice"] or "?").split()[-1]
    stolen = f"; the host took {results['stolen']:.0%} of the CPU for others" if results["stolen"] >= 0.01 else ""
    return (f"Sluice {version}, {results['date'][:10]}: {machine['cpu']}, {machine['cores']} cores, "
            f"load generators included, Linux {machine['kernel']}, {machine['file_system']}; medians of {results['rounds']} "
            f"interleaved rounds of {results['seconds']} s{stolen}")


def median(row, key):
    return number(row["figures"][key]["median"]) if key in row["figures"] else ""


def by_program(row, key):
    """ "gateway 12 + scheduler 9" """
    parts = [(name.split(" ", 1)[1], figure["median"]) for name, figure in row["figures"].items() if name.startswith(key + " ")]
    return " + ".join(f"{name} {number(value)}" for name, value in parts)


def remarks(row):
    said = [row["note"]] if row["note"] else []
    for target in row["targets"]:
        judged = f"target {target['wanted']}: {'met' if target['met'] else 'not met'}"
        said.append(f"{number(target['value'])} {target['what']} ({judged})" if target["what"] else judged)
    return "; ".join(said)


def range_of(row):
    figure = row["figures"].get("value")
    return f"{number(figure['min'])}–{number(figure['max'])}" if figure else ""


def cells(row):
    return (row["what"], row["subject"], median(row, "value") or "–", row["unit"], range_of(row), median(row, "p50_ms"),
            median(row, "p99_ms"), by_program(row, "cpu_us"), by_program(row, "switches"), remarks(row))


def text(results):
    lines, table = [heading(results), ""], [COLUMNS]
    for last, row in zip([None, *results["rows"]], results["rows"]):
        new = not last or last["group"] != row["group"]
        same = last and last["what"] == row["what"]
        table += [("",) * len(COLUMNS)] if new else []
        table.append(("",) + cells(row)[1:] if same else cells(row))
    widths = [max(map(len, column)) for column in zip(*table)]
    for line in table:
        lines.append("  ".join(cell.ljust(width) if at in LEFT else cell.rjust(width)
                               for at, (cell, width) in enumerate(zip(line, widths))).rstrip())
    lines += ["", *(f"BROKE: {problem}" for problem in results["problems"])] if results["problems"] else []
    return "\n".join(lines)


def markdown(results):
    lines = [heading(results) + ".", "", "| | | median | least–most | p99 ms | CPU µs each | |", "|---|---|--:|--:|--:|---|---|"]
    for row in results["rows"]:
        what, subject, value, unit, least_most, _, p99, cpu, _, said = cells(row)
        lines.append(f"| {what} | {subject} | {value} {unit} | {least_most} | {p99} | {cpu} | {said} |")
    return "\n".join(lines)
