"""llama.cpp alone, its own server inside the wheel: `python -m skilldeck_daemon.bench.llamacpp_child` with file, port,
slots, tokens of each, and threads.

The first line of its stdin is the key that keeps others of this machine out, which arguments would show them. Serves
until its stdin closes.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    import xllamacpp

    file, port, slots, context, threads = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.api_keys = file, int(port), [sys.stdin.readline().strip()]
    params.n_parallel, params.n_ctx, params.n_gpu_layers = int(slots), int(slots) * int(context), 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # its threads do not end


if __name__ == "__main__":
    main()
