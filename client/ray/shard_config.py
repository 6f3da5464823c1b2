"""The flags of a run as TOML, for `embedfleet run --config FILE --shard I/N` on another host."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ...protocol.spec.run_spec import RunSpec
from ...protocol.wire.run_options import DEFAULTS, RunOptions
from ..config.writer import config_text
from ..options.spec_flags import spec_flags


def shard_config(
    spec: RunSpec,
    out: str,
    options: RunOptions,
    *,
    devices: str | None,
    grace: float,
    otlp: str | None,
    spool: Path | None = None,
    keep_spool: bool = False,
) -> str:
    """The flags that make this spec and these options. UsageError if no flags make the spec."""
    values = {**spec_flags(spec), "out": out, "devices": devices, "grace": grace, "otlp": otlp, "spool": spool}
    if keep_spool:
        values["keep_spool"] = True
    usual = msgspec.structs.asdict(DEFAULTS)
    values |= {name: value for name, value in msgspec.structs.asdict(options).items() if value != usual[name]}
    return config_text({name.replace("_", "-"): value for name, value in values.items()})
