"""The tiny model folder: a trained tokenizer and configuration, no weights (the server draws random ones).

Runs with the demo environment's Python, which has the ``tokenizers`` package: ``python model.py FOLDER``.
"""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CONTEXT_TOKENS: Final = 4096
SPECIAL_TOKENS: Final = ("<pad>", "<s>", "</s>")
PAD_ID, BEGIN_ID, END_ID = range(3)
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

_SUBJECTS: Final = ("the gateway", "a model server", "one endpoint", "the picker", "every client", "an operator")
_VERBS: Final = ("routes", "answers", "counts", "retries", "forgets", "watches", "delays", "measures")
_OBJECTS: Final = ("a long prompt", "the first token", "some streams", "its queue", "the cached prefix", "two requests")
_MANNERS: Final = ("quickly", "in order", "twice a day", "without a sound", "before noon", "under load")


def _training_lines(count: int) -> Iterator[str]:
    """Yield *count* made-up sentences, the same ones each time."""
    chosen = random.Random(0)  # noqa: S311 - sentences for a tokenizer, nothing secret
    for number in range(count):
        words = (chosen.choice(words) for words in (_SUBJECTS, _VERBS, _OBJECTS, _MANNERS))
        yield f"{number}: {' '.join(words)}."


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _train_tokenizer(path: Path) -> int:
    """Train a byte-level BPE tokenizer, write it to *path* and return its vocabulary size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415 - demo environment only

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_lines(400), trainer)
    tokenizer.save(str(path))
    return int(tokenizer.get_vocab_size())


def write_model(folder: Path) -> None:
    """Write the files of a two-layer Llama without weights into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary_size = _train_tokenizer(folder / "tokenizer.json")
    pad, begin, end = SPECIAL_TOKENS
    token_ids = {"bos_token_id": BEGIN_ID, "eos_token_id": END_ID, "pad_token_id": PAD_ID}
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": begin,
            "eos_token": end,
            "pad_token": pad,
            "model_max_length": CONTEXT_TOKENS,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    _write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "max_position_embeddings": CONTEXT_TOKENS,
            "vocab_size": vocabulary_size,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            **token_ids,
        },
    )
    _write_json(folder / "generation_config.json", token_ids)


if __name__ == "__main__":
    write_model(Path(sys.argv[1]))
