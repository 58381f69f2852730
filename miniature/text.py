"""The tokenizer of the miniature's text encoder: a T5 tokenizer over the words of the world.

Whole words are pieces; any other word is spelt in letters. The literal tokens of subject priors,
"[v1]" to "[v9]", are pieces of their own that no training caption holds.
"""

import string

from transformers import T5Tokenizer

from miniature.phrases import all_words
from miniature.world import article

MAX_TOKENS = 24
SUBJECT_TOKENS = tuple(f"[v{i}]" for i in range(1, 10))


def make_tokenizer() -> T5Tokenizer:
    """A T5 tokenizer of about 200 words and the letters; pads to `MAX_TOKENS`."""
    sentences = [*all_words(), article("apple"), article("bear"), "the then and is in of"]
    words = sorted({word for sentence in sentences for word in sentence.lower().split()})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -12.0)]
    pieces += [(f"▁{word}", -4.0) for word in (*words, *SUBJECT_TOKENS) if len(word) > 0]
    spelled = string.ascii_letters + string.digits + ".,'!?-[]"
    known = {piece for piece, _ in pieces}
    pieces += [(letter, -14.0) for letter in spelled if letter not in known]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=MAX_TOKENS)
