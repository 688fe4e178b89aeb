"""FastAPI, imported without making ready the models of its OpenAPI documents: nobody is shown one here (`app.build`).

Pydantic makes each model ready at its first use then, and a daemon starts 25 ms sooner.
"""

from __future__ import annotations

from pydantic import BaseModel

BaseModel.model_config["defer_build"] = True  # what is defined meanwhile inherits it
try:
    from fastapi import FastAPI
finally:
    del BaseModel.model_config["defer_build"]

__all__ = ["FastAPI"]
