"""An engine in a process of its own: its start (`child.py`), our side (`worker.py`) and its own (`worker_main.py`)."""
