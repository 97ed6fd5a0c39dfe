"""Hybrid quantum-classical jobs for PennyLane: a function becomes a job with metrics, checkpoints and exact resume.

Importing this package is free: each name below is looked up when it is first used.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from pl_hybridjobs import errors as errors
    from pl_hybridjobs.cost.budget import Budget as Budget
    from pl_hybridjobs.jobs.context import current_job as current_job
    from pl_hybridjobs.jobs.context import input_path as input_path
    from pl_hybridjobs.jobs.context import job_device as job_device
    from pl_hybridjobs.jobs.context import load_checkpoint as load_checkpoint
    from pl_hybridjobs.jobs.context import log_metric as log_metric
    from pl_hybridjobs.jobs.context import log_metrics as log_metrics
    from pl_hybridjobs.jobs.context import results_dir as results_dir
    from pl_hybridjobs.jobs.context import save_checkpoint as save_checkpoint
    from pl_hybridjobs.jobs.context import save_result as save_result
    from pl_hybridjobs.jobs.decorator import hybrid_job as hybrid_job
    from pl_hybridjobs.jobs.handle import Job as Job
    from pl_hybridjobs.jobs.handle import list_jobs as list_jobs
    from pl_hybridjobs.jobs.handle import open_job as open_job
    from pl_hybridjobs.jobs.script import submit_script as submit_script
    from pl_hybridjobs.jobs.search import grid as grid
    from pl_hybridjobs.jobs.search import loguniform as loguniform
    from pl_hybridjobs.jobs.search import random_search as random_search
    from pl_hybridjobs.jobs.search import uniform as uniform
    from pl_hybridjobs.jobs.spec import Resources as Resources
    from pl_hybridjobs.jobs.spec import Status as Status
    from pl_hybridjobs.jobs.submission import Plan as Plan
    from pl_hybridjobs.jobs.sweep import Sweep as Sweep
    from pl_hybridjobs.jobs.sweep import open_sweep as open_sweep
    from pl_hybridjobs.spread.build import spread_device as spread_device
    from pl_hybridjobs.training.body import training_loop as training_loop
    from pl_hybridjobs.training.loop import train as train

__version__ = "0.1.0"

_HOME = {
    # submitting
    "hybrid_job": "jobs.decorator",
    "submit_script": "jobs.script",
    "Job": "jobs.handle",
    "Sweep": "jobs.sweep",
    "Plan": "jobs.submission",
    "Resources": "jobs.spec",
    "Budget": "cost.budget",
    "Status": "jobs.spec",
    "open_job": "jobs.handle",
    "list_jobs": "jobs.handle",
    "open_sweep": "jobs.sweep",
    # sets of arguments for a sweep
    "grid": "jobs.search",
    "random_search": "jobs.search",
    "uniform": "jobs.search",
    "loguniform": "jobs.search",
    # inside a job, and harmless outside one
    "current_job": "jobs.context",
    "job_device": "jobs.context",
    "spread_device": "spread.build",
    "log_metric": "jobs.context",
    "log_metrics": "jobs.context",
    "save_checkpoint": "jobs.context",
    "load_checkpoint": "jobs.context",
    "save_result": "jobs.context",
    "input_path": "jobs.context",
    "results_dir": "jobs.context",
    # the loop
    "train": "training.loop",
    "training_loop": "training.body",
    # what can go wrong
    "errors": "",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> _Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pl_hybridjobs' has no attribute {name!r}")
    home = _HOME[name]
    value = getattr(_import_module(f"pl_hybridjobs.{home}"), name) if home else _import_module(f"pl_hybridjobs.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
