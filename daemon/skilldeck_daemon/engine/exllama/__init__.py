"""The exllama engines: EXL2, EXL3 and GPTQ on CUDA."""
