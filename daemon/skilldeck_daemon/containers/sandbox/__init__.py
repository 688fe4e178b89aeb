"""One sandbox: how it is started, what limits it, and what becomes of it when the daemon dies.

`bwrap.py` makes its command line and `seccomp.py` the filter; `supervisor.py` (its PID 1) and `interpreter_program.py`
run inside. `runtime.py` is a running one as the daemon sees it, `plain.py` the same without isolation. `watchdog.py`
limits what the kernel does not.
"""
