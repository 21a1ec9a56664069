"""The package's own embeddings, of checkpoints with random weights that it writes and loads itself.

Run by `make parity` in .venv-parity: python tests/parity/reference.py FOLDER MODEL
"""

import string
import sys
from pathlib import Path

import inputs
import numpy as np
import soundfile
import torch
from torchvision_operators import declare

_OPERATORS = declare()  # they exist as long as it does


def import_package():
    """The package, offline and without the compiled part of torchvision.

    At its import it loads tokenizers and RoBERTa's weights from the hub, of which nothing is used here.
    """
    from transformers import BartTokenizer, BertTokenizer, RobertaConfig, RobertaModel, RobertaTokenizer

    for kind in (BertTokenizer, BartTokenizer, RobertaTokenizer):
        kind.from_pretrained = classmethod(lambda kind, *names, **options: None)
    config = RobertaConfig(vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
    RobertaModel.from_pretrained = classmethod(lambda kind, *names, **options: kind(config))
    import laion_clap

    return laion_clap


def write_tokenizer(folder: Path):
    from transformers import RobertaTokenizer

    letters = [*string.ascii_lowercase, "Ġ"]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *letters, "<mask>"]
    tokenizer = RobertaTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    tokenizer.save_pretrained(folder)
    return tokenizer


def randomise(model: torch.nn.Module) -> None:
    """Weights and statistics of a size at which different sounds get different vectors."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
    bn0 = model.audio_branch.bn0
    bn0.running_mean.normal_(-30, 5)
    bn0.running_var.uniform_(100, 300)
    for weight in model.parameters():
        if weight.dim() > 1 and weight.requires_grad:  # those of spectrograms are fixed
            weight.data.mul_(1.5)


def write_checkpoint(model: torch.nn.Module, path: Path) -> None:
    """As those that LAION published: of a parallel model, with numbers of the training beside the weights."""
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    weights["module.text_branch.embeddings.position_ids"] = torch.arange(514)[None]
    torch.save({"epoch": 15, "name": "CLAP", "acc": np.float64(0.9), "state_dict": weights}, path)


def main(folder: Path, name: str) -> None:
    laion_clap = import_package()
    tokenizer = write_tokenizer(folder)
    amodel, is_fused = inputs.MODELS[name]
    path = folder / f"{name}.pt"
    random = laion_clap.CLAP_Module(enable_fusion=is_fused, amodel=amodel, device="cpu")
    randomise(random.model)
    write_checkpoint(random.model, path)
    package = laion_clap.CLAP_Module(enable_fusion=is_fused, amodel=amodel, device="cpu")
    package.load_ckpt(path, verbose=False)
    sounds = [inputs.sound(number) for number in range(inputs.NUM)]
    files = []
    for number in range(inputs.NUM):
        rate_hz = inputs.file_rate_hz(number)
        files.append(folder / f"{number:02}.wav")
        soundfile.write(files[-1], inputs.sound(number, rate_hz), rate_hz, subtype="FLOAT")
    with torch.inference_mode():
        vectors = {
            "data": package.get_audio_embedding_from_data(sounds),
            "tensors": package.get_audio_embedding_from_data(map(torch.from_numpy, sounds), use_tensor=True).numpy(),
            "files": package.get_audio_embedding_from_filelist(list(map(str, files))),
            "texts": package.get_text_embedding(
                list(inputs.TEXTS), lambda texts: dict(tokenizer(texts, padding=True, return_tensors="pt"))
            ),
        }
    np.savez(folder / f"{name}.npz", **vectors)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
