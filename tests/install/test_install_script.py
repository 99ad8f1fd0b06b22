"""install.sh refuses early, in words that name the next step, and its helpers decide rightly."""

import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

KERNELS = "appliance/engines/llama/kernels"
NEEDED_TOOLS = ["bash", "cat", "cut", "dirname", "getconf", "head", "mktemp", "realpath", "rm", "sort", "uname"]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "install.sh", *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)} | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def bare(tmp_path: Path, checkout: Path) -> Path:
    """A folder with nothing but install.sh, and `bin` with the least tools and no Python."""
    shutil.copy(checkout / "install.sh", tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in NEEDED_TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")
    return tmp_path


def put_python(folder: Path, name: str, description: str, *, with_venv: bool = True) -> None:
    """A stand-in that answers what install.sh asks a Python about itself."""
    answers = {"version_info": f"echo '{description}'", "_base_executable": 'echo "$0"'}
    cases = "".join(f"*{asked}*) {answer};;\n" for asked, answer in answers.items())
    fallback = "*ensurepip*) exit 0;;" if with_venv else ""
    program = folder / "bin" / name
    program.write_text(f'#!/bin/bash\ncase "$*" in\n{cases}{fallback}\n*) exit 1;;\nesac\n')
    program.chmod(0o755)


def test_the_script_is_valid_bash(checkout: Path) -> None:
    """Bash reads the whole script without an error."""
    assert subprocess.run(["bash", "-n", checkout / "install.sh"]).returncode == 0


def test_shellcheck_finds_nothing(checkout: Path) -> None:
    """The script holds to shellcheck's rules, all of them."""
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    result = subprocess.run(["shellcheck", checkout / "install.sh"], capture_output=True, text=True)
    assert result.stdout == ""


def test_help_names_every_option(bare: Path, checkout: Path) -> None:
    """Every option that the script takes is in its help, and the help in nothing else than on standard output."""
    taken = set(re.findall(r"--[a-z-]+(?=[ |)])", cases_of("parse_command_line", checkout)))
    result = run(bare, "--help")
    assert result.returncode == 0
    assert len(taken) >= 7
    assert taken <= set(re.findall(r"--[a-z-]+", result.stdout))


def cases_of(function_name: str, checkout: Path) -> str:
    body = (checkout / "install.sh").read_text().split(f"{function_name}() {{", 1)[1].split("\n}\n", 1)[0]
    return "\n".join(line for line in body.splitlines() if re.match(r"\s+--", line))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sevre"], "unknown option --sevre"),
        (["serve"], "unknown option serve"),
        (["--port"], "--port needs a value"),
        (["--serve", "--home", ""], "--home needs a value"),
        (["--test", "--bundle", "x.tar"], "--test and --bundle exclude each other"),
        (["--test", "--serve"], "--serve and --test exclude each other"),
        (["--port", "80"], "--port and --home go with --serve"),
        (["--serve", "--prefix", "/tmp/x"], "--prefix goes with --offline"),
    ],
)
def test_a_wrong_command_line_is_refused(bare: Path, arguments: list[str], complaint: str) -> None:
    """Misuse exits with 2 and names what is wrong and where the list of options is."""
    result = run(bare, *arguments)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert "--help" in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_a_bundle_that_is_not_there(bare: Path) -> None:
    """A missing bundle is named in one line."""
    result = run(bare, "--offline", "nowhere.tar")
    assert (result.returncode, result.stderr) == (1, f"install.sh: there is no file {Path.cwd()}/nowhere.tar\n")


def test_python_too_old(bare: Path) -> None:
    """An old Python is refused with the versions found and the line that installs another."""
    put_python(bare, "python3", "3.9 cpython")
    put_python(bare, "python3.10", "3.10 cpython")
    result = run(bare, "--serve", PATH=str(bare / "bin"))
    assert result.returncode == 1
    assert "needs Python 3.11 to 3.14; found: python3 is 3.9 cpython, python3.10 is 3.10 cpython" in result.stderr
    assert "apt-get install -y python3 python3-venv" in result.stderr


@pytest.mark.parametrize("description", ["3.15 cpython", "3.11 pypy", "4.0 cpython"])
def test_python_without_wheels(bare: Path, description: str) -> None:
    """A Python for which the dependencies have no wheels is refused before anything is downloaded."""
    put_python(bare, "python3", description)
    result = run(bare, "--serve", PATH=str(bare / "bin"))
    assert result.returncode == 1
    assert f"python3 is {description}" in result.stderr


def test_no_python_at_all(bare: Path) -> None:
    """Without any Python the message says so."""
    result = run(bare, "--serve", PATH=str(bare / "bin"))
    assert result.returncode == 1
    assert "found: none" in result.stderr


def test_python_without_its_venv_module(bare: Path) -> None:
    """Debian splits venv off; the message is the apt line for that very version."""
    put_python(bare, "python3.12", "3.12 cpython", with_venv=False)
    result = run(bare, "--serve", PATH=str(bare / "bin"))
    assert result.returncode == 1
    assert "apt-get install -y python3.12-venv" in result.stderr


def test_the_newest_python_is_taken(bare: Path, function) -> None:
    """Of several suitable ones the newest is used, whatever `python3` points to."""
    for name, description in {
        "python3": "3.11 cpython",
        "python3.13": "3.13 cpython",
        "python3.15": "3.15 cpython",
    }.items():
        put_python(bare, name, description)
    result = function("find_python; echo $python_version", PATH=f"{bare}/bin")
    assert result.stdout == "3.13\n"


def test_a_private_python_is_not_for_the_service(bare: Path, function) -> None:
    """System-wide, a Python below somebody's own folder is passed over: the service's user could not start it."""
    put_python(bare, "python3.13", "3.13 cpython")
    bare.chmod(0o700)
    result = function(f"system=yes PYTHON={bare}/bin/python3.13; find_python")
    assert result.returncode == 1
    assert f"in {bare}/bin/python3.13, where the service's user may not go" in result.stderr


def test_no_compiler(bare: Path, function) -> None:
    """Without a C++ compiler the message is the apt line that brings one."""
    result = function("check_compiler", PATH=f"{bare}/bin")
    assert result.returncode == 1
    assert "apt-get install -y build-essential" in result.stderr


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [
        ([], "", ""),
        (["gcc", "clang"], "", "gcc"),
        (["gcc", "cc"], "", "cc"),
        (["gcc", "mine"], "mine -m64", "mine -m64"),
        (["gcc"], "mine", ""),
    ],
)
def test_the_c_compiler(bare: Path, function, there: list[str], asked: str, found: str) -> None:
    """The one that CC names and no other; else the first of the usual names. None is no error."""
    for name in there:
        (bare / "bin" / name).symlink_to("/bin/false")
    result = function("find_c_compiler; echo $c_compiler", PATH=f"{bare}/bin", CC=asked)
    assert (result.returncode, result.stdout) == (0, f"{found}\n")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """What install.sh reads of a checkout to tell whether it has changed, and no more."""
    folder = tmp_path / "sources"
    (folder / KERNELS).mkdir(parents=True)
    (folder / KERNELS / "matmul.c").write_text("int one;\n")
    for name in ("tui", "models_store"):
        (folder / name).mkdir()
    for name in ("pyproject.toml", "requirements.lock"):
        (folder / name).touch()
    return folder


@pytest.fixture
def set_up(sources: Path, tmp_path: Path, function) -> Callable[[str], list[str]]:
    """Set the small checkout up with the compiler `good`, `bad` or one that is not there; what the script says of it.

    A stand-in for Python leaves what pip and setuptools would: a log, and a library where the compiler is the good one
    and the environment's flags are out of its way.
    """
    for name in ("good", "bad"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to("/bin/false")
    (sources / ".venv" / "bin").mkdir(parents=True)
    (sources / ".venv" / "bin" / "appliance").touch(0o755)
    python = sources / ".venv" / "bin" / "python"
    python.write_text(
        f"""#!/bin/sh
        touch {tmp_path}/kernels-build.log
        [ "$CC, $LDSHARED, $CFLAGS$LDFLAGS" != "good, good -shared, " ] || touch {KERNELS}/_kernels.abi3.so
        """
    )
    python.chmod(0o755)

    def call(compiler: str) -> list[str]:
        result = function(
            f"""cd {sources}; scratch={tmp_path} cache=$PWD venv=$PWD/.venv stamps=$PWD/.venv/.installed
            uname() {{ echo x86_64; }}
            find_c_compiler
            ensure_editable_project""",
            PATH=f"{tmp_path}/bin:/usr/bin:/bin",
            CC=compiler,
            CFLAGS="-march=native",
            LDFLAGS="-Wl,-rpath,/nowhere",
        )
        assert (result.returncode, result.stderr) == (0, "")
        return [line.replace(f"{sources}/", "") for line in result.stdout.splitlines()]

    return call


INSTALLED = "  changed   installed this checkout: .venv/bin/appliance"
IN_PLACE = "  in place  .venv/bin/appliance"
INSTEAD = "  note      the kernels of llama.cpp serve, without the project's faster ones: "
AGAIN = ". With a compiler (sudo apt-get install -y build-essential) the next run makes them"
NONE = f"{INSTEAD}no C compiler named nowhere{AGAIN}"
FAILED = f"{INSTEAD}bad did not compile them, see kernels-build.log{AGAIN}"


def test_kernels_are_compiled_where_they_can_be(set_up, sources: Path) -> None:
    """Again when their source has changed or the library is gone; otherwise a second run changes nothing."""
    library = sources / KERNELS / "_kernels.abi3.so"
    assert set_up("good") == [INSTALLED]
    assert set_up("good") == [IN_PLACE]
    library.unlink()
    assert set_up("good") == [INSTALLED]
    assert library.exists()
    (sources / KERNELS / "matmul.c").write_text("int two;\n")
    assert set_up("good") == [INSTALLED]
    assert set_up("nowhere") == [IN_PLACE]


def test_kernels_that_do_not_compile_are_spoken_of(set_up, tmp_path: Path) -> None:
    """Every run says that llama.cpp's serve and why; only a compiler that is another or says another thing is tried."""
    assert set_up("nowhere") == [INSTALLED, NONE]
    assert set_up("nowhere") == [IN_PLACE, NONE]
    assert set_up("bad") == [INSTALLED, FAILED]
    assert set_up("bad") == [IN_PLACE, FAILED]
    bad = tmp_path / "bin" / "bad"
    bad.unlink()
    bad.write_text("#!/bin/sh\necho other words >&2\nexit 1\n")
    bad.chmod(0o755)
    assert set_up("bad") == [INSTALLED, FAILED]
    assert set_up("bad") == [IN_PLACE, FAILED]
    assert set_up("good") == [INSTALLED]


def test_kernels_of_an_older_source_do_not_stay(set_up, sources: Path) -> None:
    """A library that was compiled from another source is gone when the new one does not compile."""
    set_up("good")
    (sources / KERNELS / "matmul.c").write_text("int two;\n")
    assert set_up("bad") == [INSTALLED, FAILED]
    assert not list((sources / KERNELS).glob("*.so"))


def test_what_a_checkout_compiled_is_no_source(function, sources: Path) -> None:
    """The key of a packaged project is that of its sources, C among them, whatever was built beside them."""

    def key() -> str:
        result = function(f"cd {sources}; source_key")
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    before = key()
    (sources / KERNELS / "_kernels.abi3.so").write_bytes(b"built")
    assert key() == before
    (sources / KERNELS / "matmul.c").write_text("int two;\n")
    assert key() != before


@pytest.mark.parametrize(
    ("machine", "members", "refused"),
    [
        ("x86_64", [f"{KERNELS}/_kernels.abi3.so", "z.py"], False),
        ("x86_64", [f"{KERNELS}/matmul.c"], True),
        ("aarch64", [f"{KERNELS}/matmul.c"], False),
    ],
)
def test_no_bundle_without_kernels(function, tmp_path: Path, machine: str, members: list[str], refused: bool) -> None:
    """Where they would be missed, a wheel without them is not bundled; the message has the reason and the next step."""
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name in members:
            wheel.writestr(name, b"")
    result = function(f"python=python3; uname() {{ echo {machine}; }}; check_kernels {tmp_path}/a.whl")
    assert result.returncode == (1 if refused else 0)
    expected = (
        "would make every installation slower: no C compiler. Run this again with a compiler (sudo apt-get install"
    )
    assert (expected in result.stderr) == refused
    assert bool(result.stderr) == refused


def test_too_little_disk(function, tmp_path: Path) -> None:
    """A disk too small is refused with what is needed and what is free."""
    result = function(f"check_disk {tmp_path} 999999999 'the installation'")
    assert result.returncode == 1
    assert re.search(r"the installation needs 999999999 MiB in \S+; \d+ MiB are free", result.stderr)


def test_system_wide_needs_root(function) -> None:
    """A user without root learns both ways on."""
    result = function("id() { echo 1000; }; require_root")
    assert result.returncode == 1
    assert "sudo ./install.sh" in result.stderr
    assert "./install.sh --serve" in result.stderr


@pytest.mark.parametrize(
    ("first", "second", "is_older"),
    [("2.28", "2.34", True), ("2.9", "2.28", True), ("2.36", "2.36", False), ("2.40", "2.36", False)],
)
def test_versions_are_compared_by_number(function, first: str, second: str, is_older: bool) -> None:
    """glibc 2.9 is older than 2.28."""
    assert function(f"older {first} {second}").returncode == (0 if is_older else 1)


def test_a_build_for_one_processor_is_refused(function, tmp_path: Path) -> None:
    """A llama.cpp wheel without the processor variants would die on another machine, so it is never installed."""
    wheel = tmp_path / "llama.zip"
    subprocess.run(["python3", "-m", "zipfile", "-c", wheel, __file__], check=True)
    result = function(f"python=python3; check_llama_flavour {wheel}", PATH="/usr/bin:/bin")
    assert result.returncode == 1
    assert "0 processor variants" in result.stderr


def test_a_wheel_changed_on_disk_is_not_used(function, tmp_path: Path) -> None:
    """Kept wheels are checked against their recorded digest before every use."""
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"as it was built")
    assert function(f"scratch={tmp_path}; record_digests {tmp_path}; digests_hold {tmp_path}").returncode == 0
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"as it was changed")
    assert function(f"digests_hold {tmp_path}").returncode != 0


def test_recorded_digests_become_lock_lines(function, tmp_path: Path) -> None:
    """A wheel made here is installed by its own hash, like one from an index."""
    (tmp_path / "SHA256SUMS").write_text(f"{'ab' * 32}  some_name-1.2.3-cp311-cp311-linux_x86_64.whl\n")
    assert function(f"hashed_lines {tmp_path}").stdout == f"some_name==1.2.3 --hash=sha256:{'ab' * 32}\n"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("--serve", "serve no"),
        ("--serve --with-finetuning", "serve yes"),
        ("--with-finetuning --serve --port 81", "serve yes"),
        ("--bundle x.tar --with-finetuning", "bundle yes"),
        ("--with-finetuning", "system yes"),
        ("--test", "test yes"),
    ],
)
def test_fine_tuning_goes_with_every_mode(function, line: str, wanted: str) -> None:
    """It is asked for beside a mode; the tests always have it."""
    assert function(f"parse_command_line {line}; echo $mode $finetuning").stdout == f"{wanted}\n"


def test_a_bundle_without_fine_tuning(function, tmp_path: Path) -> None:
    """Asked to install it from a bundle that does not have it, the script says how one is made that does."""
    result = function(f"bundle=x.tar stamps={tmp_path}; ensure_finetuning_payload {tmp_path}")
    assert result.returncode == 1
    assert "x.tar was made without fine-tuning; make one with ./install.sh --bundle OUT.tar --with-finetuning" in (
        result.stderr
    )


def test_a_lock_beyond_another(function, tmp_path: Path) -> None:
    """Of a larger lock only the entries are taken that the smaller one does not have, each with its hashes."""
    (tmp_path / "small").write_text("# by hand\na==1 \\\n    --hash=sha256:aa\n")
    (tmp_path / "large").write_text(
        "# by hand\na==1 \\\n    --hash=sha256:aa\nb==2 ; python_version < '4' \\\n    --hash=sha256:bb\n"
    )
    result = function(f"lock_beyond {tmp_path}/small {tmp_path}/large; without_hashes {tmp_path}/large")
    assert result.stdout.splitlines() == [
        "b==2 ; python_version < '4' \\",
        "    --hash=sha256:bb",
        "a==1",
        "b==2 ; python_version < '4'",
    ]


def test_room_is_asked_for_what_fine_tuning_brings(function, tmp_path: Path) -> None:
    """Of a bundle's wheels only those that its locks name are unpacked once more."""
    payload, kept = tmp_path / "payload", {"torch.whl": "ab" * 32, "peft.whl": "cd" * 32, "litestar.whl": "ef" * 32}
    (payload / "wheels").mkdir(parents=True)
    for name in kept:
        (payload / "wheels" / name).touch()
    (payload / "MANIFEST.sha256").write_text("".join(f"{digest}  wheels/{name}\n" for name, digest in kept.items()))
    (payload / "torch.lock").write_text(f"torch==2 --hash=sha256:{kept['torch.whl']}\n")
    (payload / "finetuning.lock").write_text(
        f"peft==1 \\\n    --hash=sha256:{'00' * 32} \\\n    --hash=sha256:{kept['peft.whl']}\n"
    )
    function(f"link_wheels {payload} {tmp_path}/linked {payload}/torch.lock {payload}/finetuning.lock")
    assert sorted(path.name for path in (tmp_path / "linked").iterdir()) == ["peft.whl", "torch.whl"]


def test_torch_needs_room_to_unpack(function, tmp_path: Path) -> None:
    """How much depends on the build that the index gave: three times its wheels."""
    with (tmp_path / "torch.whl").open("wb") as wheel:
        wheel.write(b"x" * 2_000_000)
    result = function(f"venv={tmp_path}; df() {{ printf 'x\\nx 0 0 1 0\\n'; }}; check_torch_disk {tmp_path}")
    assert result.returncode == 1
    assert re.search(r"torch, unpacked, needs [69] MiB in \S+; 1 MiB are free", result.stderr)
