"""Training: one loop, its checkpoints, and the driver that runs it on the cluster."""


class RunError(RuntimeError):
    """A run that cannot go on; says what happened on which worker."""
