"""What one types in a terminal: ``python -m xlxmert_core paint "a red house"``."""
