"""The corpus of notebook 42: what is in it, what the steps leave, and that nothing held out is read."""

import random
from collections import Counter

import pytest

from llmlab import assets
from llmlab.recipes import data_pipeline as pipeline
from llmlab.recipes.data_pipeline import Document, kept_by
from llmlab.tasks.classify import read_record


@pytest.fixture(scope="module", autouse=True)
def data():
    try:
        for name in ("reviews", "vader", "peoples_daily", "conversations"):
            assets.path(name)
    except assets.AssetMissing as error:
        pytest.skip(str(error))


def test_the_parts_do_not_overlap():
    parts = pipeline.review_parts()
    assert {name: len(texts) for name, texts in parts.items() if name != "fresh"} == {
        "held": 500,
        "leaked": 150,
        "pool": 1800,
    }
    together = [text for texts in parts.values() for text in texts]
    assert len(together) == len(set(together))


def test_the_mixture_is_what_the_notebook_says():
    documents = pipeline.dirty_mixture()
    origins = Counter(document.origin for document in documents)
    assert origins == {"review": 3634, "template": 1100, "leak": 900, "english": 700, "damage": 550}
    texts, parts = Counter(document.text for document in documents), pipeline.review_parts()
    assert not texts.keys() & set(parts["held"])
    assert all(texts[text] >= 3 for text in parts["leaked"])
    times = Counter(text.strip() for text in assets.load_reviews(deduplicate=False).texts)
    assert all(texts[text] >= times[text] for text in parts["pool"])


def test_each_step_drops_what_it_is_there_for():
    review = "这家酒店的房间很干净，早餐也不错，服务态度好，下次还会来住。"
    near = review.replace("下次", "以后")
    seen = pipeline.review_parts()["leaked"][0]
    documents = [
        Document(review, "review"),
        Document(review + " ", "review"),
        Document(near, "review"),
        Document("A very comfortable hotel, close to the station.", "english"),
        Document("&#32431;&#20013;&#26041;", "damage"),
        Document("听说" + seen, "leak"),
    ]
    gone = {}
    for step in pipeline.STEPS:
        after = kept_by([step], documents)[1]
        gone[step] = [i for i, d in enumerate(documents) if not any(d is kept for kept in after)]
    assert gone["exact"] == [1] and gone["near"] == [1, 2] and gone["decontaminate"] == [5]
    assert 3 in gone["language"] and not {0, 1, 2, 5} & set(gone["language"])
    assert 4 in gone["quality"] and not {0, 1, 2, 5} & set(gone["quality"])
    assert [len(stage) for stage in kept_by(["exact", "near"], documents)] == [6, 5, 4]
    with pytest.raises(ValueError, match=r"steps \['wash'\]: expected some of language"):
        kept_by(["wash"], documents)


def test_a_stream_reads_all_before_it_reads_again():
    texts = [f"{i:03}" for i in range(50)]
    read = pipeline.stream(texts, 0, budget=50 * 4 * 2)
    assert sorted(read[:50]) == texts and sorted(read[50:]) == texts and read[:50] != read[50:]
    assert sum(map(len, read)) + len(read) >= 400
    assert pipeline.stream(texts, 0, 40) == read[:10]


def test_windows_overlap_by_the_token_that_is_predicted():
    rows = pipeline.windows(["好" * 200, "差" * 200])
    assert rows.shape[1] == 65 and (rows[:-1, -1] == rows[1:, 0]).all() and rows[0, 0] == 1


def test_augmenting_changes_about_a_tenth():
    text = "".join(chr(0x4E00 + i) for i in range(200))
    changed = pipeline.augmented(text, random.Random(0))
    assert changed != text and len(set(text) & set(changed)) > 160 and abs(len(changed) - 200) <= 20
    assert pipeline.augmented("好", random.Random(1))


def test_the_records_are_of_this_mixture():
    record = read_record("data_pipeline")
    assert record["sizes"]["raw"] == {
        "texts": len(pipeline.dirty_mixture()),
        "characters": sum(len(document.text) for document in pipeline.dirty_mixture()),
    }
    assert record["budget"] == pipeline.BUDGET == read_record("data_mixing")["budget"]
    assert record["vocabulary"] == len(pipeline.vocabulary()) + 2
    assert Counter(run["corpus"] for run in record["runs"]) == dict.fromkeys([*record["sizes"]], pipeline.SEEDS)
