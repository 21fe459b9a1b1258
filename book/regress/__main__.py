"""``python -m book.regress``: run the chapters and compare them with the accepted run."""

import sys

from book.regress.compare import main

if __name__ == "__main__":
    sys.exit(main())
