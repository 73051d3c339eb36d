"""`clients/python` as a package: its types hold, its wheel builds, and an installed one works."""

import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

PACKAGE = ROOT / "clients/python"


def python(*arguments, **environment):
    """Runs Python with the packages of these tests, away from the tree."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **environment)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # The build's own packages are those of requirements.txt: nothing is fetched.
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    built = python("-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(PACKAGE))
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_types_hold(tmp_path):
    checked = python("-m", "mypy", "--cache-dir", str(tmp_path), cwd=PACKAGE)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    files = len(list(PACKAGE.glob("src/pie_client/*.py")))
    assert f"no issues found in {files} source files" in checked.stdout


def test_the_code_has_the_project_s_format():
    for task in (["check"], ["format", "--check"]):
        checked = python("-m", "ruff", *task, "--no-cache", "src", cwd=PACKAGE)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_program_that_uses_it_is_checked_against_its_types(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from pie_client import PieClient\n"
        "async def main() -> None:\n"
        "    async with PieClient('127.0.0.1:8080') as client:\n"
        "        instance = await client.launch_instance(7)\n"
        "        reveal_type(await instance.recv())\n"
    )
    # As an installed package is seen: by its py.typed.
    config = tmp_path / "mypy.ini"
    config.write_text(f"[mypy]\nstrict = true\nmypy_path = {PACKAGE / 'src'}\ncache_dir = {tmp_path}\n")
    checked = python("-m", "mypy", "--config-file", str(config), str(program))
    assert 'Argument 1 to "launch_instance" of "PieClient" has incompatible type "int"' in checked.stdout
    assert "pie_client.events.Event" in checked.stdout


def test_a_wheel_has_the_package_its_types_and_nothing_else(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert names == {"pie_client", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    files = {path.name for path in (PACKAGE / "src/pie_client").iterdir() if path.is_file()}
    packed = zipfile.ZipFile(wheel).namelist()
    assert {name.removeprefix("pie_client/") for name in packed if name.startswith("pie_client/")} == files
    assert "py.typed" in files


def test_an_installed_package_works_and_says_its_version(wheel, tmp_path):
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--quiet", "--target", str(tmp_path)]
    installed = python("-m", "pip", "install", *options, str(wheel))
    assert installed.returncode == 0, installed.stderr
    code = "import pie_client.sync, pie_client.connection as c; print(pie_client.__file__, c.client_name())"
    ran = python("-c", code, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    file, name = ran.stdout.split()
    assert file.startswith(str(tmp_path)) and name == "pie-client-python/0.1.0", ran.stderr
