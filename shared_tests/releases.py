"""Which releases of packages are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import InvalidRequirement, Requirement

ABSENT = "not installed"


def release_of(package: str) -> str:
    """The release of a package that is installed, or ABSENT."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ABSENT


def is_within(releases: str) -> bool:
    """Whether the installed release of a package is in a range, as pip has it ("jax>=0.12"): not if it is absent.

    Raises ValueError if `releases` is no range.
    """
    wanted, installed = as_range(releases), release_of(as_range(releases).name)
    return installed != ABSENT and wanted.specifier.contains(installed, prereleases=True)


def as_range(releases: str) -> Requirement:
    """A package and a range of its releases. Raises ValueError for anything else that pip may install."""
    try:
        found = Requirement(releases)
    except InvalidRequirement:
        found = None
    if found is None or not found.specifier or found.url or found.marker or found.extras:
        raise ValueError(f"releases: expected a package and a range, such as jax>=0.12, got {releases!r}")
    return found
