"""Meshes: files, materials, geometry, a virtual scanner, renderings and figures."""
