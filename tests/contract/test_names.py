"""What a test may be called."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_a_test_name_has_50_letters_at_most():
    names = [
        (path.relative_to(TESTS).as_posix(), name)
        for path in sorted(TESTS.rglob("test_*.py"))
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert ("contract/test_names.py", "test_a_test_name_has_50_letters_at_most") in names
    assert [(path, name) for path, name in names if len(name) > 50] == []
