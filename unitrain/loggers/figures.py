"""Figure helpers shared by trackers."""

from __future__ import annotations

import io
from typing import Any


def file_name(name: str, step: int) -> str:
    """Return where a figure is stored, below the folder or the artifacts of a run."""
    return f"figures/{name}-{step}.png"


def frozen(figure: Any) -> Any:
    """Return a figure that continues showing what this one shows now."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - who has a figure has matplotlib
    from matplotlib.image import imread  # noqa: PLC0415

    with io.BytesIO() as file:
        figure.savefig(file, format="png")
        file.seek(0)
        image = imread(file)
    height, width = image.shape[:2]
    dpi = 100
    picture = Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
    picture.figimage(image)
    return picture
