"""Fixtures that several test folders use."""

import pytest

from ft_tools import workspace as workspace_module


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Give a workspace of its own, and return its folder."""
    monkeypatch.setenv(workspace_module.VARIABLE, str(tmp_path))
    return tmp_path
