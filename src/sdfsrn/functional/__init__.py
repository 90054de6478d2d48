"""The mathematics: pure functions on tensors, one file a piece."""
