"""The shipped weights from nothing, and how they get into the package."""
