"""The annotation page: silhouettes and poses for a folder of photos."""
