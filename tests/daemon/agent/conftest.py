"""What plans are made of, real and without a listener: a store, containers of plain processes, the bundled model."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from skilldeck_daemon.core import Core
from skilldeck_daemon.settings import Settings


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Core]:
    home = tmp_path_factory.mktemp("core")
    settings = Settings(
        model="tiny",
        engine="llamacpp",
        engine_process="off",
        sandbox="none",
        data_dir=home / "data",
        socket=home / "daemon.sock",
    )
    async with Core(settings, tracing=lambda: None) as core:
        await core.load_model()
        yield core
