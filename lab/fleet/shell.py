"""Running programs: argument lists, deadlines, one kind of error."""


class LabError(Exception):
    """Something the person at the terminal can do something about; printed as one message."""


def run(argv, *, timeout=60, check=True, text=True, **options):
    """Run a program with its output captured; a failure names the program and shows what it said."""
    import subprocess  # here: a command on a host does without it, and there are thousands of them

    argv = [str(word) for word in argv]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=timeout, text=text, **options)
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]}: not found; lab/packages.txt lists what the machine needs") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)}: no end after {timeout} s") from error
    if check and done.returncode:
        said = done.stderr or done.stdout
        said = said if text else said.decode(errors="replace")
        raise LabError(f"{' '.join(argv)}: exit code {done.returncode}\n{said.strip()[-3000:]}")
    return done
