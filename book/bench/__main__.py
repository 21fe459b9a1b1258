"""``python -m book.bench``: measure, and write the page."""

import sys

from book.bench.run import main

if __name__ == "__main__":
    sys.exit(main())
