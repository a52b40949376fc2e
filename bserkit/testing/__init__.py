"""Testing: the checks that the built-in components pass, for whoever writes others, and samples to try them on.

``bserkit new pooler my-pooler`` writes a package, or with ``--single-file`` a file, with a pooler that works and passes
every check, to be changed into another; so it does for each kind.

Every built-in component passes the checks below. ``bserkit check`` runs them on a component by its name, on the file of
a plugin or on a package, installed or not. It shows where each broken rule is, and then ends with the exit code 1. A
plugin's own tests run them by ``bserkit.testing``:

```python
import my_plugin

from bserkit.testing import parametrize_with_checks


@parametrize_with_checks([my_plugin, my_plugin.MyPooler(blocks=3)])
def test_my_plugin(check):
    check()
```

A module, or the ``Path`` of a single file, means the plugin with each of its components by its defaults; a required
parameter is tried by the first of its ``Field(examples=[...])``. ``checks_of`` yields the same without pytest: each
check has a ``name``, and calling it raises ``CheckError`` where the rule does not hold. ``data=`` names a corpus that
readers of corpora are tried on too. ``sample_corpus``, ``sample_stereo``, ``sample_planes``, ``sample_segments``,
``sample_views`` and the backbone ``BandMeans``, which needs no network, are there for tests of one's own.
"""

from bserkit.testing.checks import Check, checks_of, parametrize_with_checks
from bserkit.testing.expecting import CheckError
from bserkit.testing.samples import (
    BandMeans,
    sample_corpus,
    sample_planes,
    sample_segments,
    sample_stereo,
    sample_views,
)

__all__ = [
    "BandMeans",
    "Check",
    "CheckError",
    "checks_of",
    "parametrize_with_checks",
    "sample_corpus",
    "sample_planes",
    "sample_segments",
    "sample_stereo",
    "sample_views",
]
