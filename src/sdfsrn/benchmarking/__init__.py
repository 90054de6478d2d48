"""What `sdfsrn.benchmark` measures with, and the plain twins that it measures against."""
