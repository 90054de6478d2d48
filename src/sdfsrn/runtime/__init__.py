"""Files, signals, seeds, parallel jobs, and the package's configurations."""
