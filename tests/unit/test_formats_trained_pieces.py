"""What of an example is trained on is shown piece by piece."""

from ft_tools.formats.trained_pieces import pieces_of

IGNORED = -100


def test_tokens_that_only_together_make_a_character_stay_together():
    texts = {(1,): "\ufffd", (1, 2): "\ufffd", (1, 2, 3): "\u20ac", (4,): "!", (9,): "\ufffd"}
    decode = lambda ids: texts.get(tuple(ids), "\ufffd")  # noqa: E731
    labels = [IGNORED, IGNORED, IGNORED, 4, 9]
    assert pieces_of(decode, [1, 2, 3, 4, 9], labels, 4) == (
        ("\u20ac", "context"),
        ("!", "trained"),
        ("\ufffd", "cut"),
    )


def test_a_blank_that_a_decoder_takes_from_a_single_token_is_shown():
    """SentencePiece's decoders, as Llama 2 and Mistral have them, take it from what comes first."""
    words = {1: "<s>", 2: "\u2581Paris", 3: "\u2581", 4: "is", 5: "\u2581\u2581", 6: "it"}

    def decode(ids):
        text = "".join(words[i] for i in ids).replace("\u2581", " ")
        return text[1:] if text.startswith(" ") else text

    said = [text for text, _ in pieces_of(decode, [1, 2, 3, 4, 5, 6], [IGNORED] * 6, 99)]
    assert said == ["<s>", " Paris", " ", "is", "  ", "it"]
