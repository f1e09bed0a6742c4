"""Training: one loop, its checkpoints, and the driver that runs it on the cluster."""
