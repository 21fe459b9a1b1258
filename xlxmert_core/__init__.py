"""X-LXMERT, the book's thin module: one transformer that paints, captions and answers."""

__version__ = "0.1.0"
