"""Measuring a model on a split, and showing what was found."""
