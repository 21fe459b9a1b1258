"""The repository's address everywhere at once: ``make address URL=https://github.com/you/book``.

It is kept in ``_config.yml`` (repository, url); wherever else a file names the repository, it is the same one, which a
test holds. So a fork changes all of them by one command.
"""

import re
import sys
from pathlib import Path

from book.build.nightly import files
from book.build.run_chapters import ROOT

SHAPE = re.compile(r"https://github\.com/([\w-]+/[\w.-]*[\w-])")


def current(root: Path = ROOT) -> str:
    """The owner and the name, "owner/name", that _config.yml says."""
    text = (root / "_config.yml").read_text("utf-8")
    found = re.search(rf"(?m)^  url: {SHAPE.pattern}$", text)
    if found is None:
        raise ValueError(
            "_config.yml has no line '  url: https://github.com/owner/name' under repository: give it one."
        )
    return found[1]


def change(url: str, root: Path = ROOT) -> list[Path]:
    """Put another address in the place of the current one in every file that git tracks; returns the changed files.

    Raises ValueError in one sentence for what is no address of a repository.
    """
    shape = SHAPE.fullmatch(url.removesuffix("/").removesuffix(".git"))
    if shape is None:
        raise ValueError(f"{url!r} is no address of a repository: give one like https://github.com/you/book.")
    old, changed = re.compile(rf"\b{re.escape(current(root))}\b(?!-)"), []
    for path in files(root):
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue  # a picture, weights
        if (new := old.sub(shape[1], text)) != text:
            path.write_bytes(new.encode("utf-8"))
            changed.append(path)
    return changed


def main() -> int:
    """The command behind ``make address``."""
    try:
        changed = change(sys.argv[1] if len(sys.argv) == 2 else "")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(str(path.relative_to(ROOT)) for path in changed) or "It is the address already: nothing changed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
