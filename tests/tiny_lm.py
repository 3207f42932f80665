"""A causal language model small enough to make in a test: random weights, a byte-level tokenizer, a chat template, Hugging Face format."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}Q:{{ m.content }}"
    "{% elif m.role == 'assistant' %}A:{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}A:{% endif %}"
)


def make_model(folder: Path, *, seed: int = 0, context: int = 128, template: str | None = TEMPLATE, sharpness: float = 0.6) -> Path:
    """Writes it to `folder`. A larger `sharpness` spreads the logits, so that rounding does not decide between tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        ["what is two and two"], trainers.BpeTrainer(vocab_size=270, special_tokens=["<e>", "<p>"], initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<e>", pad_token="<p>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=sharpness,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
