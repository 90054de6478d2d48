"""The mathematics: pure functions on tensors, one file per subject."""
