"""Which segments meet in a step, and how they become tensors."""
