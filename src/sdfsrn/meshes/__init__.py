"""Meshes and pictures of them."""
