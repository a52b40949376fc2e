"""Built-in corpus readers: corpora by their original names and layouts, folders of classes, manifests, audformat."""

from bserkit import CorpusReader, hookimpl
from bserkit.plugins.builtin.corpora.annotated import Baum1s, Meld
from bserkit.plugins.builtin.corpora.audformat_database import Audformat
from bserkit.plugins.builtin.corpora.demo import Demo
from bserkit.plugins.builtin.corpora.file_names import CremaD, EmoDb, Emovo, Nemo, Ravdess, Savee, Tess, Urdu
from bserkit.plugins.builtin.corpora.folders import Afew5, Folders
from bserkit.plugins.builtin.corpora.iemocap import Iemocap
from bserkit.plugins.builtin.corpora.manifest import Manifest

__all__ = ["Folders", "Manifest"]


@hookimpl
def bserkit_corpora() -> list[type[CorpusReader]]:
    """Return the built-in readers."""
    return [
        Afew5,
        Baum1s,
        Iemocap,
        Meld,
        CremaD,
        EmoDb,
        Emovo,
        Nemo,
        Ravdess,
        Savee,
        Tess,
        Urdu,
        Folders,
        Manifest,
        Audformat,
        Demo,
    ]
