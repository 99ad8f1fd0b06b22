"""The lock files say exactly what is installed, and fit pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PARTS = ("", "-test", "-egp", "-build", "-starters", "-finetuning")
RUN, TEST, EGP, BUILD, STARTERS, FINETUNING = (f"requirements{part}.lock" for part in PARTS)
LOCKS = [RUN, TEST, EGP, BUILD, STARTERS, FINETUNING]


def entries(lock: Path) -> list[str]:
    """One string per requirement, its hashes included."""
    text = re.sub(r"^#.*\n", "", lock.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def versions(lock: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for entry in entries(lock):
        name, version = entry.split()[0].split("==")
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_pinned_and_hashed(checkout: Path, name: str) -> None:
    """No requirement can be met by other bytes than those that were locked."""
    for entry in entries(checkout / name):
        assert re.match(r"[a-z0-9-]+==[^ *]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("name", LOCKS)
def test_no_lock_names_a_host(checkout: Path, name: str) -> None:
    """Where packages come from is the machine's setting, not the project's."""
    text = (checkout / name).read_text()
    assert "//" not in text
    assert not re.search(r"^-", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("lock", "extra"),
    [(RUN, None), (TEST, None), (TEST, "test"), (FINETUNING, "finetuning")],
)
def test_the_locks_fit_pyproject(checkout: Path, lock: str, extra: str | None) -> None:
    """Each dependency is locked at a version that pyproject.toml allows; after a change there, `make lock`."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    locked = versions(checkout / lock)
    for requirement in map(Requirement, wanted):
        if requirement.name == "torch":
            continue  # see test_torch_is_pinned_by_its_version_alone
        found = locked.get(canonicalize_name(requirement.name), set())
        assert found, f"{requirement} is not locked"
        assert all(map(requirement.specifier.contains, found)), f"{requirement} is locked at {found}"


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [(RUN, TEST), (TEST, EGP), (RUN, FINETUNING), (TEST, FINETUNING)],
)
def test_tests_run_with_what_is_installed(checkout: Path, smaller: str, larger: str) -> None:
    """A later lock never changes a version that an earlier one installed."""
    before, after = versions(checkout / smaller), versions(checkout / larger)
    assert {name: after[name] for name in before.keys() & after.keys()} == {
        name: before[name] for name in before.keys() & after.keys()
    }


def test_the_test_lock_holds_the_run_time_lock(checkout: Path) -> None:
    """Nothing that is installed for use is missing under test."""
    assert versions(checkout / RUN).keys() <= versions(checkout / TEST).keys()


def test_torch_is_pinned_by_its_version_alone(checkout: Path) -> None:
    """Its builds differ by index: pyproject.toml and install.sh name the same version, and no lock holds it or CUDA."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    script = (checkout / "install.sh").read_text()
    version = re.search(r"TORCH_VERSION=(\S+)", script)
    assert version is not None
    assert f"torch=={version[1]}" in project["optional-dependencies"]["finetuning"]
    for lock in LOCKS:
        names = versions(checkout / lock).keys() - {"nvidia-ml-py"}
        assert not [name for name in names if re.match(r"torch$|triton$|cuda-|nvidia-", name)]
