"""Installs a cell's packages beside what the environment `base` has already: torch is there once, for all cells.

tox calls it in place of pip (`install_command`). A `.pth` file lets the cell see the base, and pip count what is there.
"""

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = Path(sysconfig.get_path("purelib"))


def see_base(site: Path, base: Path) -> None:
    """Let the environment of ``site`` import what is installed in ``base``, after what it has itself."""
    if not (base / "torch").is_dir():
        sys.exit(f"{base} has no torch: run `tox run -e base` first, or `make matrix`")
    # addsitedir, unlike a bare line with the folder, follows the base's own .pth: the project's editable install
    (site / "base.pth").write_text(f"import site; site.addsitedir({str(base)!r})\n")


def remaining(constraints: str, wanted: list[str]) -> str:
    """Return the constraints on packages of which the cell does not name a release of its own."""
    own = {_name(one) for one in wanted}
    return "".join(line for line in constraints.splitlines(keepends=True) if _name(line) not in own)


def _name(requirement: str) -> str:
    return re.split(r"[=<>!~\[ ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def main(arguments: list[str]) -> int:
    see_base(SITE, Path(str(SITE).replace(sys.prefix, str(Path(sys.prefix).with_name("base")))))
    pinned = Path(sys.prefix, "constraints.txt")
    pinned.write_text(remaining((ROOT / "constraints.txt").read_text(), arguments))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(pinned), *arguments]
    return subprocess.run(pip, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
