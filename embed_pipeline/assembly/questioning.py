"""From a data set's settings to what writing its questions needs: chat models, templates, the search of the round trip.

Belongs here: which model and which search a section `synthesis` means, and what they cost so far. Does not belong here:
how questions are written (synthesis).
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embed_pipeline.assembly.variant_encoder import describe_search
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.graph.source_settings import round_trip_recipe
from embed_pipeline.project.project import Project
from embed_pipeline.project.recipes import AnyEncoderSettings
from embed_pipeline.records import Passage, Query
from embed_pipeline.retrieval.searching import open_retriever, write_search_index
from embed_pipeline.synthesis import filters
from embed_pipeline.synthesis.chat import ChatEstimate, ChatSettings, Progress
from embed_pipeline.synthesis.generation import RequestPlan, SynthesisResult, plan_requests, synthesise
from embed_pipeline.synthesis.hosted_chat import HostedChat, load_hosted_chat
from embed_pipeline.synthesis.templates import own_templates

CHAT_FOLDER = "chat"


@dataclass(frozen=True)
class Questioning:
    """How the questions of one data set are written; `encoder` gives the encoder of the round trip's recipe.

    `report` is told what a call is repeated for.
    """

    project: Project
    dataset: str
    encoder: Callable[[AnyEncoderSettings], Encoder]
    device: str = "cpu"
    report: Callable[[str], None] | None = None

    def write(self, passages: Sequence[Passage], progress: Progress | None = None) -> SynthesisResult:
        """The questions for the passages.

        Raises:
            ValueError: a service refuses or a limit is reached; every answer so far stays in the cache.
        """
        settings, model = self.project.synthesis[self.dataset], self.chat_model()
        judge = self._load(settings.judge) or model
        with tempfile.TemporaryDirectory(dir=self.project.home) as folder:
            return synthesise(
                passages,
                settings,
                language=self._language,
                chat=model,
                judge=judge,
                search=self._round_trip(passages, Path(folder)),
                templates_folder=self._templates,
                progress=progress,
            )

    def estimate(self, passages: Sequence[Passage]) -> dict[str, ChatEstimate]:
        """What writing, and judging at most, would still ask for; {} where no model is asked. No call is made."""
        settings, model = self.project.synthesis[self.dataset], self.chat_model()
        plan: RequestPlan = plan_requests(passages, settings, language=self._language, templates_folder=self._templates)
        judge = self._load(settings.judge) or model
        writing = {"writing": model.estimate(plan.writing)} if model else {}
        return {**writing, "judging, at most": judge.estimate(plan.judging_at_most)} if judge else writing

    def chat_model(self) -> HostedChat | None:
        """The model that writes; None offline."""
        settings = self.project.synthesis[self.dataset]
        return self._load(settings.chat) if settings.generator == "chat" else None

    @property
    def _language(self) -> str:
        return self.project.datasets[self.dataset].language

    @property
    def _templates(self) -> Path | None:
        return own_templates(self.project.synthesis[self.dataset], self.project.folder(self.dataset))

    def _load(self, settings: ChatSettings | None) -> HostedChat | None:
        folder = self.project.home / CHAT_FOLDER
        if settings is None:
            return None
        return load_hosted_chat(settings, cache_directory=folder, usage_directory=folder, report=self.report)

    def _round_trip(self, passages: Sequence[Passage], folder: Path) -> filters.Search | None:
        recipe, trip = round_trip_recipe(self.project, self.dataset), self.project.synthesis[self.dataset].round_trip
        if recipe is None or trip is None:
            return None
        encoder = self.encoder(recipe.encoder) if recipe.encoder else None
        search = describe_search(recipe, self._language, encoder)
        write_search_index(search, passages, folder)
        retriever = open_retriever(search, folder)

        def find(questions: Sequence[str]) -> list[list[str]]:
            found: list[list[str]] = [[] for _ in questions]
            queries = [Query(str(number), text, "train") for number, text in enumerate(questions)]
            for hit in retriever.search(queries, trip.top_k):
                found[int(hit.query_id)].append(hit.passage_id)
            return found

        return find
