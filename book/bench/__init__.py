"""Every claim of speed beside its baseline: one file a family of measurements."""
