"""Files, signals, seeds, threads, parallel jobs, and the package's configurations."""
