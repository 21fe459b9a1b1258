"""``python -m book.train``: make the shipped weights from nothing."""

import sys

from book.train.weights import main

if __name__ == "__main__":
    sys.exit(main())
