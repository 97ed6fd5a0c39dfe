from __future__ import annotations

import subprocess

from pl_hybridjobs.jobs import provenance
from tests.jobs.test_bundle import write


def test_provenance_tells_commit_and_dirty_flag(tmp_path):
    repository = tmp_path / "my repo"
    repository.mkdir()
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(repository)]
    write(repository, {"sub/a.py": "1"})
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()

    provenance._git_state.cache_clear()
    assert provenance.of_folder(repository / "sub") == {"git_commit": commit, "git_dirty": False, "root": "my repo"}
    assert provenance._head(repository) == commit
    write(repository, {"sub/a.py": "2"})
    provenance._git_state.cache_clear()
    assert provenance.of_folder(repository)["git_dirty"] is True


def test_provenance_is_empty_outside_of_a_repository_and_without_git(tmp_path, monkeypatch):
    assert provenance.of_folder(tmp_path) == {}
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    provenance._git_state.cache_clear()
    assert provenance.of_folder(tmp_path) == {}


def test_a_git_that_hangs_costs_no_more_than_its_time(tmp_path, monkeypatch):
    write(tmp_path, {"bin/git": "#!/bin/sh\nexec /bin/sleep 20\n", ".git/HEAD": "ab" * 20 + "\n"})
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    provenance._git_state.cache_clear()

    assert provenance.of_folder(tmp_path) == {"git_commit": "ab" * 20, "git_dirty": None, "root": tmp_path.name}
