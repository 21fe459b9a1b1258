"""The book: its pages, and the packages that build them, measure, compare and train."""
