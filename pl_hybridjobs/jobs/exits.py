"""Exit codes of a worker, besides 0 (an outcome was written)."""

EXIT_STOPPED = 75  #: it stopped after SIGTERM or SIGUSR1, resumable (EX_TEMPFAIL of sysexits.h)
EXIT_RETRY = 76  #: the function raised, and retries allow another attempt
EXIT_BUDGET = 77  #: the next submission would have passed a budget, resumable
EXIT_FENCED = 79  #: a newer attempt owns the job
EXIT_MEMORY = 80  #: in a container: the kernel has killed the worker, which had reached its limit of memory
