"""`FHI_AL-completion`: completion of the commands in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fhi_al.cli import guarded, make_parser


def main_parser() -> argparse.ArgumentParser:
    """`FHI_AL-completion SHELL`."""
    parser = make_parser(
        "FHI_AL-completion",
        "Print a script that has a shell complete all commands of FHI_AL, with their options, when "
        "Tab is pressed. For bash, keep it in a file that ~/.bashrc sources; for zsh, eval it in "
        "~/.zshrc; for fish, pipe it to `source` in config.fish.",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to be taught")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `FHI_AL-completion`."""
    arguments = main_parser().parse_args(argv)

    def act() -> int:
        from fhi_al.cli.shell import completion_script

        print(completion_script(arguments.shell))
        return 0

    return guarded(act)
