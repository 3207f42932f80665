"""The pocket models' tokenizer: byte-level BPE. Every digit and every capital is a token: that makes sums and spelling learnable.

A chat is `<|q|>question<|a|>answer<|e|>`. The chat template puts a space into any "<|" of a message, so a user cannot write a special
token; plain `tokenizer(text)` does read such strings as special tokens, as every tokenizer of this kind does by default.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

QUESTION, ANSWER, END, PAD = SPECIAL = ("<|q|>", "<|a|>", "<|e|>", "<|pad|>")
VOCABULARY = 640
CONTEXT = 512

# system messages are ignored: the models have never seen one
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{ '<|q|>' + message['content'] | replace('<|', '< |') }}"
    "{%- elif message['role'] == 'assistant' -%}{{ '<|a|>' + message['content'] | replace('<|', '< |') + '<|e|>' }}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|a|>' }}{%- endif -%}"
)
# a digit or capital alone, a small word with the space before it, or whatever stands between
_PIECES = r"[0-9A-Z]| ?[a-z]+|[^0-9A-Za-z]+"


def build(texts: Iterable[str]) -> Any:
    """A `tokenizers.Tokenizer` trained on these texts; same texts, same tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer: Any, folder: Path) -> None:
    """Writes it in Hugging Face format, chat template included."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=None,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[QUESTION, ANSWER],
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


def prompt(turns: Sequence[tuple[str, str]], question: str) -> str:
    """The text of a generation prompt after solved turns, as the chat template writes it."""
    solved = "".join(QUESTION + asked + ANSWER + answer + END for asked, answer in turns)
    return solved + QUESTION + question + ANSWER
