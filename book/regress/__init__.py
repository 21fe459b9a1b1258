"""Runs of the chapters compared with the accepted ones: numbers, figures, and what counts as a change."""
