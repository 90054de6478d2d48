"""Poses that are rough or missing: how well they fit a predicted shape, and which ones fit better."""
