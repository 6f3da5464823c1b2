"""The libraries that the package asks for, by its own metadata, and the versions that are installed. None is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import zip_longest

from .finding import Finding, named

PACKAGE = "embedfleet"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:(>=|==)\s*([0-9][0-9A-Za-z.]*))?")
_EXTRA = re.compile(r"extra == ['\"]([\w-]+)['\"]")
NOTABLE = {
    "torch": "of real models, only those in OpenVINO's cache can be computed; fake models, BM25 and metadata weights work",
    "qdrant": "no BM25 and no collection: give --index none, or install it",
}
"""What a run lacks without an extra that most runs need."""
FOR_DEVELOPERS = "dev"


@dataclass(frozen=True, slots=True)
class Library:
    """A library that the package asks for. `installed` is empty if it is not there, `extra` for one that is always needed."""

    name: str
    installed: str
    wanted: str = ""
    """A version."""
    exact: bool = False
    """Whether no other version than `wanted` will do; else a later one will."""
    extra: str = ""

    @property
    def fits(self) -> bool:
        """Whether the installed version is one that the package asks for."""
        found, wanted = _numbers(self.installed), _numbers(self.wanted)
        if self.exact:
            return found[: len(wanted)] == wanted
        pairs = zip_longest(found, wanted, fillvalue=0)
        return next((ours > least for ours, least in pairs if ours != least), True)

    @property
    def requirement(self) -> str:
        """For pip."""
        return f"{self.name}{'==' if self.exact else '>='}{self.wanted}" if self.wanted else self.name


def measure_libraries() -> tuple[Library, ...]:
    """The libraries of this package, without those for its developers; none if its metadata are not there."""
    try:
        asked = requires(PACKAGE) or []
    except PackageNotFoundError:
        return ()
    found = (_library(one) for one in asked)
    return tuple(one for one in found if one is not None and one.extra != FOR_DEVELOPERS)


def _library(requirement: str) -> Library | None:
    name_part, _, marker = requirement.partition(";")
    match, extra = _REQUIREMENT.match(name_part.strip()), _EXTRA.search(marker)
    if match is None:
        return None
    name, how, wanted = match.groups()
    return Library(name, _installed(name), wanted or "", how == "==", extra[1] if extra else "")


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _numbers(text: str) -> list[int]:
    """The numbers of a version without its local part: `2.13.0+cpu` is 2, 13, 0."""
    return [int(one) for one in re.findall(r"\d+", text.split("+")[0].split("-")[0])]


def library_findings(libraries: tuple[Library, ...]) -> list[Finding]:
    """What is missing or of another version, then all versions in one line."""
    found = [*_missing(libraries), *_unfit(libraries), *_without_extras(libraries)]
    here = [f"{one.name} {one.installed}" for one in _once(libraries) if one.installed]
    if here:
        found.append(Finding("ok", "libraries", "libraries", ", ".join(here)))
    if not libraries:
        remedy = f"install the package: pip install {PACKAGE}"
        found.append(
            Finding("note", "libraries", "no-metadata", "the package is not installed with its metadata", remedy)
        )
    return found


def _once(libraries: tuple[Library, ...]) -> list[Library]:
    return list({one.name: one for one in libraries}.values())


def _missing(libraries: tuple[Library, ...]) -> list[Finding]:
    missing = [one for one in libraries if not one.extra and not one.installed]
    if not missing:
        return []
    text = f"not installed: {named([one.name for one in missing])}"
    remedy = "pip install " + " ".join(f"'{one.requirement}'" for one in missing)
    return [Finding("problem", "libraries", "library-missing", text, remedy)]


def _unfit(libraries: tuple[Library, ...]) -> list[Finding]:
    return [
        Finding(
            "problem",
            "libraries",
            "library-version",
            f"{one.name} {one.installed} is installed; embedfleet needs {'exactly' if one.exact else 'at least'} {one.wanted}",
            f"pip install '{one.requirement}'",
        )
        for one in _once(libraries)
        if one.installed and one.wanted and not one.fits
    ]


def _without_extras(libraries: tuple[Library, ...]) -> list[Finding]:
    """Extras that are not installed: a note for those that most runs need."""
    lacking = list(dict.fromkeys(one.extra for one in libraries if one.extra and not one.installed))
    found = [
        Finding(
            "note",
            "libraries",
            "extra-missing",
            f"the extra {extra} is not installed: {NOTABLE[extra]}",
            f"pip install '{PACKAGE}[{extra}]'",
        )
        for extra in lacking
        if extra in NOTABLE
    ]
    others = [extra for extra in lacking if extra not in NOTABLE]
    if others:
        found.append(Finding("ok", "libraries", "extras", f"extras that are not installed: {', '.join(others)}"))
    return found
