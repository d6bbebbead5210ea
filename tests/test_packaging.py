"""What is built can be installed, used and type-checked by who has nothing else of ours."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_that_the_sdist_makes_works_and_is_typed():
    argv = [sys.executable, ROOT / "scripts/package.py", "--here"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "works, mypy agrees, pyright" in done.stdout
