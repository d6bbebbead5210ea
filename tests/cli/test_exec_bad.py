"""Bad input is one clear error or one failed job, and the rest completes; a full disk is told."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from anabranch.observe import Journal
from tests.cli.shell import PROGRAM, environment, shell

pytestmark = [pytest.mark.slow, pytest.mark.real_clock]
both_loops = pytest.mark.parametrize("loop", ["trio", "asyncio"])


def executed(
    folder: Path, *words: str, text: bytes = b"", limit: tuple[int, int] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `exec` with `text` as its stdin, under a resource limit."""

    def lower() -> None:
        if limit is not None:
            resource.setrlimit(limit[0], (limit[1], resource.getrlimit(limit[0])[1]))

    return subprocess.run(
        [*PROGRAM, "exec", *words],
        cwd=folder,
        env=environment(),
        input=text,
        capture_output=True,
        timeout=60,
        check=False,
        preexec_fn=lower,
    )


@both_loops
def test_an_argument_that_no_program_can_take_fails_its_job_alone(
    tmp_path: Path, loop: str
) -> None:
    text = b"a\nb\0c\n" + b"x" * 200_000 + b"\n-e\n" + bytes([0xFF, 0xFE]) + b"\nz\n"
    done = executed(tmp_path, "-k", "--loop", loop, "printf", "%.5s", text=text)
    assert done.returncode == 2
    assert done.stdout.split(b"\n") == [b"a", b"-e", b"\xff\xfe", b"z"]
    said = done.stderr.decode().splitlines()
    assert [line.partition(":")[0] for line in said] == ["anabranch"] * 2
    assert sorted(line.split()[2] for line in said) == ["2:", "3:"]
    assert all(len(line) < 1200 for line in said)


@both_loops
def test_a_program_that_cannot_be_run_fails_each_job_with_the_reason(
    tmp_path: Path, loop: str
) -> None:
    (tmp_path / "plain").write_text("no program")
    (tmp_path / "lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "lost").chmod(0o755)
    for program in ("./nowhere", "./plain", "./lost", str(tmp_path), "no\x1b[31mway"):
        done = executed(tmp_path, "--loop", loop, program, ":::", "a", "b")
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.count(b"\n") == 2
        assert b"\x1b" not in done.stderr


@both_loops
def test_scripts_that_misbehave_neither_hang_nor_stop_the_rest(tmp_path: Path, loop: str) -> None:
    scripts = [
        "exec >&- 2>&-; exit 3",
        "sleep 60 & echo forked",
        "kill -9 $$",
        "kill -SEGV $$",
        "trap '' TERM; sleep 60",
        "kill -STOP $$",
        "echo fine",
    ]
    args = ["-k", "-j7", "--loop", loop, "--timeout", "1.5", "--shell", ":::"]
    done = executed(tmp_path, *args, *scripts)
    assert done.returncode == 5, done.stderr
    assert done.stdout == b"forked\nfine\n"
    assert b"job 2: something that it left behind held its output open, and was" in done.stderr


@both_loops
def test_what_a_job_left_behind_does_not_delay_its_result_which_says_so(
    tmp_path: Path, loop: str
) -> None:
    args = ["--json", "--loop", loop, "--shell", "sleep 60 & echo {}", ":::", "a"]
    job = json.loads(executed(tmp_path, *args).stdout)
    assert (job["exit_code"], job["error"], job["stdout"]) == (0, None, "a\n")
    assert job["truncated"]
    assert len(job["notes"]) == 1
    assert "left behind" in job["notes"][0]
    assert job["duration_s"] < 1


@both_loops
def test_sixty_jobs_at_once_run_with_sixty_four_descriptors(tmp_path: Path, loop: str) -> None:
    args = ["-j60", "--loop", loop, "sh", "-c", "echo $0; sleep 0.1", ":::"]
    numbers = [str(number) for number in range(60)]
    done = executed(tmp_path, *args, *numbers, limit=(resource.RLIMIT_NOFILE, 64))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.decode().split()) == sorted(numbers)


@both_loops
@pytest.mark.parametrize("wish", ["stop", "report"])
@pytest.mark.parametrize("kind", ["journal", "joblog"])
def test_a_disk_that_is_full_stops_the_run_or_is_reported(
    tmp_path: Path, loop: str, wish: str, kind: str
) -> None:
    args = ["-j2", "--loop", loop, f"--{kind}", "kept", "--journal-failure", wish]
    ballast = "x" * 3000
    jobs = [*map(str, range(120))]
    done = executed(
        tmp_path,
        *args,
        "sh",
        "-c",
        f"echo $0; : {ballast}",
        ":::",
        *jobs,
        limit=(resource.RLIMIT_FSIZE, 90_000),
    )
    said, ran = done.stderr.decode(), done.stdout.split()
    assert f"the {kind} kept cannot be written" in said
    assert "make room" in said
    assert "Traceback" not in said
    assert done.returncode == (1 if wish == "stop" else 0)
    assert (len(ran) == 120) == (wish == "report")
    resumed = executed(
        tmp_path,
        "-k",
        f"--{kind}",
        "kept",
        "--resume",
        "--loop",
        loop,
        "sh",
        "-c",
        f"echo $0; : {ballast}",
        ":::",
        *jobs,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert 0 < len(resumed.stdout.split()) < 120
    if kind == "journal":
        with Journal(tmp_path / "kept") as journal:
            assert len(list(journal.entries())) == 120
    else:
        assert len((tmp_path / "kept").read_text().splitlines()) == 121


def test_a_second_run_on_a_journal_or_joblog_is_refused(tmp_path: Path) -> None:
    for kind in ("--journal", "--joblog"):
        holder = subprocess.Popen(
            [*PROGRAM, "exec", kind, "kept", "sh", "-c", "touch here; sleep 60", ":::", "a"],
            cwd=tmp_path,
            env=environment(),
        )
        while not (tmp_path / "here").exists():
            assert holder.poll() is None
        second = shell("exec", kind, "kept", "--resume", "echo", ":::", "a", cwd=tmp_path)
        holder.terminate()
        assert holder.wait(timeout=10) == 143
        assert (second.returncode, second.stdout) == (2, "")
        assert "is held by another run" in second.stderr
        (tmp_path / "here").unlink()
        (tmp_path / "kept").unlink()


@both_loops
def test_a_reader_that_goes_away_ends_the_run(tmp_path: Path, loop: str) -> None:
    run = subprocess.Popen(
        [*PROGRAM, "exec", "-j2", "--loop", loop, "sh", "-c", "echo $0; echo $0 >> ran; sleep 0.1"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert run.stdin is not None
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdin.write(b"".join(b"%d\n" % number for number in range(1000)))
    run.stdin.flush()  # and it stays open: the run waits for more
    run.stdout.readline()
    run.stdout.close()
    assert run.wait(timeout=20) == 141
    assert run.stderr.read() == b""
    run.stdin.close()
    run.stderr.close()
    assert len((tmp_path / "ran").read_text().split()) < 200


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_stdout_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, "exec", "echo", ":::", "a", "b"],
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"anabranch: stdout cannot be written: No space left on device\n"


@both_loops
def test_a_job_that_prints_much_fills_no_memory_and_comes_whole(tmp_path: Path, loop: str) -> None:
    text = """
        import resource, subprocess, sys
        from anabranch.cli import main
        code = main(["exec", "--loop", sys.argv[1], "-j2", "sh", "-c",
                     "head -c 100000000 /dev/zero; echo $0 >&2", ":::", "a", "b"])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
        sys.exit(code)
    """
    program = tmp_path / "program.py"
    program.write_text("\n".join(line[8:] for line in text.splitlines()))
    with subprocess.Popen(
        [sys.executable, str(program), loop],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        count = 0
        while piece := os.read(run.stdout.fileno(), 1 << 20):
            count += len(piece)
        *said, peak = run.stderr.read().split()
    assert run.returncode == 0
    assert count == 200_000_001  # and the line end that keeps the two apart
    assert sorted(said) == [b"a", b"b"]
    assert int(peak) < 250_000


@both_loops
def test_the_failure_that_ends_a_run_counts_and_is_printed_though_it_was_being_recorded(
    tmp_path: Path, loop: str
) -> None:
    for number in range(4):
        args = ["--loop", loop, "-j1", "--halt", "now,fail=1", "--journal", f"record-{number}"]
        script = ["sh", "-c", "echo $0; test $0 != 2", ":::", "1", "2", "3"]
        done = executed(tmp_path, *args, *script)
        assert (done.returncode, done.stdout) == (1, b"1\n2\n"), done.stderr
