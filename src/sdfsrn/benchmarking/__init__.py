"""Instruments and workloads of `sdfsrn.benchmark`, and the reference implementations that it compares with."""
