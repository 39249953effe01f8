"""``python -m leadline``, and the program of that name."""

import signal


def main() -> None:
    """Run a command."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the commands are loaded there is nothing to say of an interruption.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from leadline.cli import main as commands

    commands(prog_name="leadline")


if __name__ == "__main__":
    main()
