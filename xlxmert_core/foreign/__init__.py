"""Other people's weights: their names for things, how they become ours, and the authors' two files opened."""
