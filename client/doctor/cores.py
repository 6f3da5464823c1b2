"""The cores that a run can use, and what keeps it from the others."""

from __future__ import annotations

from ...protocol.host.free_cores import BUSY, FreeCores
from ..output.formatting import pluralize
from .finding import Finding

RAISE = "raise it where the limit is set: docker run --cpus, limits.cpu of Kubernetes, CPUQuota of systemd"


def core_findings(cores: FreeCores) -> list[Finding]:
    """Each limit with its remedy, then how many threads compute."""
    found: list[Finding] = []
    have = len(cores.cores)
    if have < cores.host:
        text = f"{have} of {pluralize(cores.host, 'core')} by the affinity of this process"
        remedy = "give it more, if they are to be used: taskset, numactl, cpuset of the container, or the job's CPUs"
        found.append(Finding("note", "cores", "core-affinity", text, remedy))
    if cores.quota < have:
        text = f"{pluralize(have, 'core')}, but a cgroup's quota allows the time of {cores.quota:.3g}"
        found.append(Finding("note", "cores", "core-quota", text, RAISE))
    if cores.busy >= BUSY:
        text = f"other processes keep {cores.busy:.1f} of {pluralize(have, 'core')} busy"
        found.append(Finding("note", "cores", "cores-busy", text, "see `top`; a run beside them is slower"))
    text = f"{pluralize(cores.threads, 'thread')} can compute at the same time, of {pluralize(cores.host, 'core')}"
    return [*found, Finding("ok", "cores", "cores", text)]
