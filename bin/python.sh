# Read by the other scripts, with $here set to this directory. POSIX sh.

# in_environment EXTRAS ARGUMENTS…: become the Python of .venv, with the extras of pyproject.toml installed.
in_environment() {
    # A stamp means that environment.py made it, with a Python that is recent enough.
    if [ -e "$here/../.venv/catfish-stamp" ] && [ -x "$here/../.venv/bin/python" ]; then
        exec "$here/../.venv/bin/python" -I "$here/environment.py" "$@"
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            exec "$candidate" -I "$here/environment.py" "$@"
        fi
    done
    if command -v uv >/dev/null; then
        exec uv run --no-project --python '>=3.11' python -I "$here/environment.py" "$@"
    fi
    echo "catfish: Python 3.11 or newer is needed, and none was found on the PATH." >&2
    echo "catfish: install one (Debian, Ubuntu: apt install python3 python3-venv), or uv (https://docs.astral.sh/uv)." >&2
    exit 1
}
