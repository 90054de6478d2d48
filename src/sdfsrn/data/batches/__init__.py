"""From pictures to training batches."""
