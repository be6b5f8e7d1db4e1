"""Find texts that say the same: word for word, nearly so, or by meaning.

`by_words.Lexical` compares pairs of neighbouring words and needs no model. `worker/by_meaning.py`
asks MiniLM about rows that share telling words. `ngrams.NGrams` finds copied runs of words.
"""
