"""A real server of OpenAI's protocol: llama.cpp's own, with a language model of the catalogue behind it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import xllamacpp


@contextlib.contextmanager
def llama_server(model: Path, key: str, *, vectors: bool = False) -> Iterator[str]:
    """Serves a GGUF file on a free loopback port behind a key, for text or for vectors; gives the server's address."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_ctx, parameters.n_parallel = 1_024, 2
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.hostnames, parameters.port, parameters.api_keys = ["127.0.0.1"], 0, [key]
    parameters.verbosity = -1
    if vectors:
        parameters.embedding, parameters.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(parameters)
    yield str(server.listening_address)
    del server
