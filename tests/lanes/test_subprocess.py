"""Scripts: what goes in, what comes out, and that each failure is told in a line."""

import os
import sys
import time

import anyio
import psutil
import pytest

from anabranch.errors import ConfigurationError, ScriptFailedError, UnknownOptionError
from anabranch.lanes._script import Script
from anabranch.lanes._subprocess import SubprocessLane, run_script
from tests.lanes.scripts import Marked, python, shell

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]

PRINTS = (
    "import os, sys, threading\n"
    "def write(to): [os.write(to, b'x' * 65536) for _ in range(16 * int(sys.argv[1]))]\n"
    "threads = [threading.Thread(target=write, args=(to,)) for to in (1, 2)]\n"
    "[each.start() for each in threads]; [each.join() for each in threads]"
)


async def test_what_a_script_writes_and_returns_is_told():
    done = await run_script(shell("echo out; echo err >&2"))
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert (done.kind, done.exit_code, done.error, done.success) == ("exit", 0, None, True)
    assert done.duration_s > 0
    assert not done.truncated


async def test_50_megabytes_on_both_streams_neither_hang_nor_fill_memory():
    grown = []
    start = psutil.Process().memory_info().rss

    def sample(_, __):
        grown.append(psutil.Process().memory_info().rss - start)

    done = await run_script(python(PRINTS, "50"), on_line=sample)
    assert done.success
    assert done.truncated
    assert done.stdout == done.stderr == b"x" * 65536
    assert max(grown) < 32 * 2**20


async def test_a_grandchild_that_keeps_the_pipe_open_delays_nothing_and_the_result_says_so():
    marked = Marked()
    for line in (f"{marked.sleep()} & echo done", f"setsid {marked.sleep()} & echo done"):
        before = time.monotonic()
        done = await run_script(shell(line))
        assert time.monotonic() - before < 20
        assert (done.success, done.stdout, done.truncated) == (True, b"done\n", True)
        assert "held its output open" in done.notes[0]
        assert marked.gone()


async def test_what_a_script_leaves_in_the_background_ends_with_it():
    marked = Marked()
    done = await run_script(shell(f"{marked.sleep()} >/dev/null 2>&1 & echo done"))
    assert done.success
    assert not done.truncated
    assert marked.gone(1)


async def test_what_was_written_before_the_end_is_read_however_slow_the_reader():
    lines = []

    def slow(_, line):
        time.sleep(0.05)
        lines.append(line)

    done = await run_script(shell("sleep 9 & for i in $(seq 20); do echo $i; done"), on_line=slow)
    assert lines == [f"{i}\n".encode() for i in range(1, 21)]
    assert done.truncated


@pytest.mark.parametrize("tail", [0, 1, 10, 100_000])
async def test_the_tail_is_the_end_of_the_output(tail):
    text = "".join(f"{i}," for i in range(2_000)).encode()
    done = await run_script(python("print(*range(2000), sep=',', end=',')"), tail=tail)
    assert done.stdout == (text[-tail:] if tail else b"")
    assert done.truncated is (tail < len(text))


async def test_the_whole_output_goes_to_files_when_asked(tmp_path):
    out, err = tmp_path / "out", tmp_path / "err"
    done = await run_script(python(PRINTS, "2"), stdout_to=out, stderr_to=str(err), tail=10)
    assert done.success
    assert out.stat().st_size == err.stat().st_size == 2 * 2**20
    assert done.stdout == b"x" * 10


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
async def test_a_full_disk_fails_a_script_that_succeeded_and_says_where():
    done = await run_script(["echo", "words"], stdout_to="/dev/full")
    assert done.kind == "output"
    assert "'/dev/full': No space left" in done.error
    assert done.stdout == b"words\n"
    done = await run_script(["echo", "words"], stdout_to="/nowhere/at/all")
    assert (done.kind, done.exit_code) == ("output", -1)
    assert "/nowhere/at/all" in done.error


async def test_lines_are_handed_on_whole_and_the_last_without_its_end():
    seen = []
    await run_script(
        shell("printf 'one\\ntwo\\nthr'; sleep 0.05; printf 'ee'; echo e >&2"),
        on_line=lambda stream, line: seen.append((stream, line)),
    )
    assert [line for stream, line in seen if stream == "stdout"] == [b"one\n", b"two\n", b"three"]
    assert ("stderr", b"e\n") in seen


async def test_a_line_without_an_end_does_not_fill_memory():
    sizes = []
    code = "import os; [os.write(1, b'x' * 65536) for _ in range(160)]"
    await run_script(python(code), on_line=lambda _, line: sizes.append(len(line)))
    assert sum(sizes) == 160 * 65536
    assert max(sizes) <= 2 * 2**20


async def test_what_on_line_raises_ends_the_script_and_is_raised():
    marked = Marked()

    def fails(_, line):
        raise KeyError(line)

    with pytest.raises(KeyError):
        await run_script(shell(f"echo line; {marked.sleep()}"), on_line=fails)
    assert marked.gone()


async def test_stdin_is_bytes_or_a_file_or_nothing(tmp_path):
    (tmp_path / "words").write_bytes(b"from a file")
    assert (await run_script(["cat"])).stdout == b""
    big = b"0123456789" * 100_000
    done = await run_script(["cat"], stdin=big, tail=len(big))
    assert done.stdout == big
    assert (await run_script(["true"], stdin=big)).success
    with open(tmp_path / "words", "rb") as file:
        assert (await run_script(["cat"], stdin=file)).stdout == b"from a file"


async def test_the_environment_and_the_folder_are_what_was_given(tmp_path):
    done = await run_script(
        python("import os; print(sorted(k for k in os.environ if k != 'LC_CTYPE'), os.getcwd())"),
        env={"ONE": "1", b"TWO": b"2"},
        cwd=tmp_path,
    )
    assert done.stdout.decode().strip() == f"['ONE', 'TWO'] {tmp_path}"


async def test_arguments_pass_through_as_they_are():
    words = ["-x", "$HOME; rm *", "a\nb", "'\"", "", "ü", "\udcff", b"\xfe"]
    done = await run_script(
        python("import os, sys; print(os.fsencode(ascii(sys.argv[1:])))", *words)
    )
    plain = [os.fsdecode(word) for word in words]
    assert done.stdout.decode().strip() == str(os.fsencode(ascii(plain)))
    done = await run_script(["printf", "%s", b"\xff\xfe"])
    assert done.stdout == b"\xff\xfe"


BAD = {
    "missing": (["nowhere-to-be-found"], "not_found", "no such file or program in PATH: 'nowhere"),
    "missing path": (["/nowhere/x"], "not_found", "no such file or program: '/nowhere/x'"),
    "dash": (["-x"], "not_found", "in PATH: '-x'"),
    "folder": (["/tmp"], "spawn", "'/tmp' is a folder, no program"),
    "not executable": (["./plain"], "spawn", "is not executable"),
    "no program": (["./text"], "spawn", "its first line must name one"),
    "interpreter": (["./lost"], "not_found", "an interpreter that does not exist: /no/such/sh"),
    "NUL": (["echo", "a\0b"], "spawn", "argument 1 has a NUL"),
    "long": (["echo", "x" * 200_000], "spawn", "argument 1 has 200,000 bytes"),
    "many": (["echo", *["x" * 1000] * 9000], "spawn", "its 9,001 arguments have 9,000,004 bytes"),
    "surrogate": (["echo", "\ud800"], "spawn", "cannot be written"),
    "exit": (shell("echo why >&2; exit 3"), "exit", "exit code 3: why"),
    "silent": (["false"], "exit", "exit code 1"),
    "killed": (shell("kill -9 $$"), "signal", "killed by SIGKILL (signal 9)"),
    "binary": (shell("printf '\\377\\n' >&2; exit 1"), "exit", "exit code 1: \ufffd"),
    "closed pipes": (shell("exec >&- 2>&-; sleep 0.2; exit 7"), "exit", "exit code 7"),
}


@pytest.mark.parametrize("name", BAD)
async def test_each_failure_is_one_line(name, tmp_path):
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    for file, line in {"text": "hello\n", "lost": "#!/no/such/sh\n"}.items():
        (tmp_path / file).write_text(line)
        (tmp_path / file).chmod(0o755)
    argv, kind, words = BAD[name]
    done = await run_script(argv, cwd=tmp_path)
    assert done.kind == kind
    assert words in done.error
    assert "\n" not in done.error
    assert not done.success
    assert done.exit_code == (-9 if kind == "signal" else -1) or kind == "exit"


async def test_a_folder_that_does_not_exist_is_named(tmp_path):
    done = await run_script(["true"], cwd=tmp_path / "nowhere")
    assert done.kind == "not_found"
    assert "nowhere" in done.error
    assert "cwd=" in done.error


@pytest.mark.parametrize(
    ("argv", "options", "says"),
    [
        ("ls -l", {}, "not one string"),
        ([], {}, "without a program"),
        (["ls", 3], {}, r"str\(3\)"),
        (None, {}, "list of arguments"),
        (["ls"], {"env": {"A": 1}}, "strings"),
        (["ls"], {"stdin": "text"}, "encode"),
        (["ls"], {"grace": -1}, "grace"),
        (["ls"], {"tail": 1.5}, "tail"),
        (["ls"], {"timeout": 0}, "timeout"),
        (["ls"], {"cwd": 3}, "cwd"),
        (["ls"], {"on_line": 3}, "on_line"),
        (["ls"], {"time_out": 3}, "timeout"),
    ],
)
async def test_what_cannot_be_meant_is_refused_before_anything_starts(argv, options, says):
    with pytest.raises((ConfigurationError, UnknownOptionError), match=says):
        await run_script(argv, **options)


async def test_a_branch_in_the_lane_says_what_is_to_run():
    lane = SubprocessLane(timeout=5)
    done = await lane.run(lambda word: ["echo", word], ("hello",), {})
    assert done.stdout == b"hello\n"
    done = await lane.run(lambda: Script(["cat"], stdin=b"in"), (), {})
    assert done.stdout == b"in"
    with pytest.raises(ScriptFailedError, match="sh: exit code 3") as caught:
        await lane.run(shell, ("exit 3",), {})
    assert caught.value.finished.exit_code == 3


async def test_a_script_may_inherit_what_this_process_reads_and_writes():
    done = await run_script(python("pass"), inherit=True)
    assert done.success
    assert (done.stdout, done.stderr) == (b"", b"")


async def test_many_scripts_run_at_once_and_leave_no_descriptor():
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(run_script, ["true"])
    if before is None:
        pytest.skip("no list of descriptors on this system: " + sys.platform)
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the table of the lifeline
