import subprocess
import sys


def test_wrong_usage_is_one_sentence_and_exit_code_2(repo_root, tmp_path):
    command = [
        sys.executable, "-m", "projects.battery.cross_validate", "+experiment=late_fusion", f"paths.outputs={tmp_path}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert done.returncode == 2
    assert "has no rounds of a cross-validation; use data=battery_elpv" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())
