"""Corpora: from recordings and annotation files to checked, audited utterances and the folds of a protocol."""
