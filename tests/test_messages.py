import runpy


def test_the_list_of_messages_is_that_of_the_code(repo):
    """Else run `python dev/messages.py`, and read aloud what its diff shows."""
    collect = runpy.run_path(str(repo / "dev/messages.py"))["collect"]
    assert (repo / "dev/messages.txt").read_text(encoding="utf-8").splitlines() == collect()
