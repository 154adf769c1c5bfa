"""Laws of a chat model's settings: what cannot hold is refused, and no key is repeated."""

from typing import Any

import pytest
from pydantic import ValidationError

from embed_pipeline.synthesis.chat import ChatSettings

CANARY = "sk-canary-7f3a9c2e51d84b06"
LOCAL = {"service": "compatible", "model": "m", "base_url": "http://host/v1"}


def test_a_local_model_needs_service_model_and_address() -> None:
    chosen = ChatSettings.model_validate(LOCAL)
    assert (chosen.parallel, chosen.structured, chosen.key_variable, chosen.cost(10**6, 10**6)) == (
        4,
        "json_schema",
        None,
        0,
    )
    assert all(field.description for field in ChatSettings.model_fields.values())


def test_the_cost_is_that_of_both_prices() -> None:
    prices = {"usd_per_million_prompt_tokens": 2.5, "usd_per_million_answer_tokens": 10}
    assert ChatSettings.model_validate({**LOCAL, **prices}).cost(4000, 1000) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": None}, "chat model settings: service compatible needs base_url"),
        ({"service": "azure"}, "needs api_version"),
        ({"service": "openai", "base_url": None, "api_version": "2024-10-21"}, "needs api_version, the others"),
        ({"base_url": "host:80/v1"}, "base_url must be"),
        ({"spend_limit_usd": 1}, "spend_limit_usd needs usd_per_million_prompt_tokens or"),
        ({"spend_limit_usd": float("inf"), "usd_per_million_prompt_tokens": 1}, "finite"),
        ({"call_limit": 0}, "call_limit"),
        ({"parallel": 0}, "parallel"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"structured": "tools"}, "structured"),
        ({"temperature": -1}, "temperature"),
        ({"max_answer_tokens": 0}, "max_answer_tokens"),
    ],
)
def test_settings_that_cannot_hold_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ChatSettings.model_validate({**LOCAL, **changes})


@pytest.mark.parametrize(
    "misplaced",
    [
        {"api_key": CANARY},
        {"api_key_variable": CANARY, "parallel": -1},
        {"base_url": f"https://user:{CANARY}@host/v1"},
        {"base_url": f"https://host/v1?key={CANARY}", "model": ""},
    ],
)
def test_a_key_written_into_the_settings_is_refused_without_repeating_it(misplaced: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatSettings.model_validate({**LOCAL, **misplaced})
    assert CANARY not in str(caught.value) + repr(caught.value.errors())
