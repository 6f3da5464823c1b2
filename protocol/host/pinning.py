"""The environment variables that pin a worker to its device."""

from __future__ import annotations

from .hub_cache import hub_cache, hub_home


def pinning(kind: str, uuid: str, threads: int) -> dict[str, str]:
    """Variables for a worker of the device `uuid` of a `kind` (`cuda` or `cpu`): it sees that GPU or none, its libraries use so
    many threads, and all workers have one cache of the hub."""
    count = str(threads)
    return {
        "CUDA_VISIBLE_DEVICES": uuid if kind == "cuda" else "",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "RAYON_NUM_THREADS": count,
        "PYTHONUNBUFFERED": "1",
        "HF_HOME": str(hub_home()),
        "HF_HUB_CACHE": str(hub_cache()),
    }
