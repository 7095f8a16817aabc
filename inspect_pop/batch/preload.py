"""What every worker needs, imported once in the fork server, so that a new process starts in milliseconds."""

import inspect_pop.batch.worker  # noqa: F401

__all__: list[str] = []
