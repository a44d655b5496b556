"""Changes the configuration of a stage that is already made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from idadapter.stages.idadapter import IdAdapterStage


def configure(stage: IdAdapterStage, **changes: Any) -> None:
    """Gives the stage, and what draws its people, another configuration; what was built from the old one stays."""
    stage.config = stage.people.config = replace(stage.config, **changes)
