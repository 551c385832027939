"""The table of the matrix, from the results of its cells: for a terminal, and for docs/versions.md."""

HEADER = ("cell", "releases", "passed", "refused", "seconds", "result")


def rows(cells: dict[str, dict]) -> list[tuple[str, ...]]:
    """Return one row a cell."""
    return [
        (
            name,
            ", ".join(f"{package} {release}" for package, release in cell["releases"].items()),
            str(cell["passed"]),
            "; ".join(cell["refused"]) or "nothing",
            str(cell["seconds"]),
            cell["result"],
        )
        for name, cell in cells.items()
    ]


def plain(cells: dict[str, dict]) -> str:
    """Return the table in columns."""
    lines = [HEADER, *rows(cells)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADER))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
