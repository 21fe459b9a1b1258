"""``python -m xlxmert_core``: see :mod:`xlxmert_core.command.main`."""

import sys

from xlxmert_core.command.main import main

sys.exit(main())
