"""Runs stages on Ray: tasks of one thread in reused worker processes. The only room that imports ray.

Two kinds of worker never share a process: those that have methods and encoders run, and those that train and test
students. Ray keeps worker processes apart by their runtime environment, which carries the role, and the name of the
data set where a plugin gives it. Code of methods, and of compressors that plugins give, runs in neither:
bench/confinement/ forks a process for it.

On one machine every task sees the same store and only addresses travel. With an address (other machines, no shared
folder) a task returns the file that it made, Ray's object store carries it, and the task that needs it puts it in
place. Every machine needs the same version of this project installed, which is checked.
"""

import os

# What Ray reads when it is imported, which every file of this room does after this one.
# Ray starts workers at niceness 15; beside any other load an `import torch` then takes most of a minute.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "120")  # for its first process, beside any other load
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A task that is too large for the machine fails after as many attempts as one that crashes; Ray's own default is to
# try for ever.
os.environ.setdefault("RAY_task_oom_retries", "2")
