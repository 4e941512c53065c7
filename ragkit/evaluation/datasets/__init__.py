"""Data sets for evaluation, in common shapes: corpus, queries and qrels; or questions and passages.

`load_dataset("nfcorpus")` reads a known data set, `load_dataset("path/to/folder")` one of yours;
the `read_*` functions read one format each. Malformed data raise `DatasetError` with file and line;
with `lenient=True` they are skipped and reported as losses.
"""

from __future__ import annotations

from ragkit.errors import DatasetError
from ragkit.evaluation.datasets.beir import read_beir, read_pyserini_jsonl
from ragkit.evaluation.datasets.catalogue import DatasetInfo
from ragkit.evaluation.datasets.kilt import read_kilt, read_kilt_knowledge
from ragkit.evaluation.datasets.load import data_root, info, load_dataset, load_retrieval, names
from ragkit.evaluation.datasets.mtrag import read_mtrag_queries, read_mtrag_tasks
from ragkit.evaluation.datasets.openqa import (
    read_clapnq,
    read_fever,
    read_litm,
    read_llamp,
    read_nq_open,
    read_pubmedqa,
    read_strategyqa,
)
from ragkit.evaluation.datasets.pairs import read_key_values, read_sts
from ragkit.evaluation.datasets.questions import read_2wiki, read_hotpot, read_musique, read_squad
from ragkit.evaluation.datasets.rerank import read_noveleval, read_rerank
from ragkit.evaluation.datasets.shapes import (
    Dataset,
    KeyValueProbe,
    KeyValueSet,
    Pair,
    PairSet,
    QASet,
    Question,
    RerankSet,
    RetrievalSet,
    SupportPair,
    SupportSet,
)
from ragkit.evaluation.datasets.smart import read_cacm, read_smart
from ragkit.evaluation.datasets.splitting import query_split, question_split, take_split
from ragkit.evaluation.datasets.trec import (
    read_qrels,
    read_run,
    read_trec,
    read_trec_topics,
    write_run,
)

__all__ = [
    "Dataset",
    "DatasetError",
    "DatasetInfo",
    "KeyValueProbe",
    "KeyValueSet",
    "Pair",
    "PairSet",
    "QASet",
    "Question",
    "RerankSet",
    "RetrievalSet",
    "SupportPair",
    "SupportSet",
    "data_root",
    "info",
    "load_dataset",
    "load_retrieval",
    "names",
    "query_split",
    "question_split",
    "read_2wiki",
    "read_beir",
    "read_cacm",
    "read_clapnq",
    "read_fever",
    "read_hotpot",
    "read_key_values",
    "read_kilt",
    "read_kilt_knowledge",
    "read_litm",
    "read_llamp",
    "read_mtrag_queries",
    "read_mtrag_tasks",
    "read_musique",
    "read_noveleval",
    "read_nq_open",
    "read_pubmedqa",
    "read_pyserini_jsonl",
    "read_qrels",
    "read_rerank",
    "read_run",
    "read_smart",
    "read_squad",
    "read_strategyqa",
    "read_sts",
    "read_trec",
    "read_trec_topics",
    "take_split",
    "write_run",
]
