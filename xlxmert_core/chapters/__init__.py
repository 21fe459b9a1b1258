"""What only the notebooks need: where chapters leave things for each other, how much each does, and plots."""
