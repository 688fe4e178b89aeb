"""GGUF files on llama.cpp, through its C API as the wheel `xllamacpp` ships it.

`gguf` reads what a file says of itself, without the library; `library` loads the C API; `vocabulary` is a file's
tokenizer; `options` what a person may choose, and what fits the memory; `model` the loaded weights with their cache;
`pages` hands back memory that holds nothing yet; `sequences` which request owns which part of the cache; `weights` what
is read of a file, and what of it goes to a GPU; `lookup` and `draft` guess tokens; `vision` reads images by a
projector; `thread` what engines with a thread of their own share; `engine` the scheduler of those that write,
`embedder` that of those that make vectors; `native` the library built for this processor.

Why the C API and not the wheel's own server: its stream leaves out the ids of tokens that end inside a character
(three of four of an emoji), it takes one Lark grammar where a custom tool brings a second, its penalties look at the
prompt too, it looks for a closed connection once a second, and it shares no prefix with a request that still runs.
"""
