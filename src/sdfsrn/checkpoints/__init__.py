"""Checkpoint files, and models from them."""
