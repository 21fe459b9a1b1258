"""``python -m book.build``: run the chapters and build the pages."""

import sys

from book.build.pages import main

if __name__ == "__main__":
    sys.exit(main())
