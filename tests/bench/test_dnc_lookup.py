"""The bench of number lists, small: both ways of looking up agree with the list itself."""

from bench.dnc_lookup import measure


def test_both_lists_answer_every_look_up_rightly(tmp_path):
    """`measure` itself compares each answer with the list; it says how long each took."""
    lines = measure(tmp_path, 20_000, 1_000)
    assert [line.split()[0] for line in lines] == ["memory", "sqlite"]
    assert all("median" in line for line in lines)
