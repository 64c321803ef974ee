"""Shell completion, in the shells that this machine has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cli_runs import SCRIPTS

from fhi_al.cli import COMMANDS

# Calls what bash would call, with the words that it would pass, and prints what it would offer.
PRESS_TAB = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
rule=$(complete -p "$1") || exit 3
rule=${rule##*-F }
${rule%% *}
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(shell: str) -> str:
    words = [str(SCRIPTS / "FHI_AL-completion"), shell]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "FHI_AL.bash"
    path.write_text(script("bash"))
    return path


def offered(bash: Path, *words: str) -> set[str]:
    done = subprocess.run(
        ["bash", "-c", PRESS_TAB, "bash", str(bash), *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_bash_completes_the_options_of_every_command(bash, command):
    options = offered(bash, command, "--")
    assert {"--help", "--version"} <= options
    assert offered(bash, command, "--vers") == {"--version"}


def test_bash_completes_actions_options_of_actions_and_choices(bash):
    assert offered(bash, "FHI_AL-journal", "") == {"check", "repair", "show"}
    assert offered(bash, "FHI_AL-journal", "re") == {"repair"}
    assert "--until" in offered(bash, "FHI_AL-journal", "repair", "--")
    assert "--until" not in offered(bash, "FHI_AL-journal", "show", "--")
    assert offered(bash, "FHI_AL-completion", "") == {"bash", "zsh", "fish"}


def test_bash_completes_folders(bash, tmp_path):
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-2.txt").touch()
    start = str(tmp_path / "ru")
    for words in (
        ("FHI_AL", "--directory"),
        ("FHI_AL-status",),
        ("FHI_AL-journal", "check"),
    ):
        assert offered(bash, *words, start) == {str(tmp_path / "run-1")}, words


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_taught_every_command(shell):
    text = script(shell)
    for command in COMMANDS:
        assert f" {command}\n" in text or f" -c {command} " in text
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, check=True, text=True, timeout=60)
