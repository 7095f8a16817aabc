"""Inspect many boards: worker processes that may die, runs that resume where they stopped, quarantine for unusable exports."""

from inspect_pop.batch.jobs import BatchSettings, BoardJob, JobOutcome, RunSummary
from inspect_pop.batch.run import cluster_executor, local_executor, run_batch

__all__ = ["BatchSettings", "BoardJob", "JobOutcome", "RunSummary", "cluster_executor", "local_executor", "run_batch"]
