"""Data sets: the embedded Storybook and the official formats of the real ones."""
