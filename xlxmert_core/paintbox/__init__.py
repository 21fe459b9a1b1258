"""The paint box: type, watch, brush, undo and ask, in Jupyter."""
