"""LangChain and LiteLLM, which talk to a server of this API by its address."""

import os

import pytest
from pydantic import BaseModel, Field

# It fetches a list of prices otherwise.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def langchain(url, model):
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model=model, base_url=f"{url}/v1", api_key="none", temperature=0, max_tokens=200, timeout=60, max_retries=0
    )


class City(BaseModel):
    """A city."""

    name: str = Field(description="Name of the city")
    country: str = Field(description="Country that it is in")


def test_langchain_invokes_and_streams(langchain):
    short = langchain.model_copy(update={"max_tokens": 12})
    answer = short.invoke([("system", "Be brief."), ("human", QUESTION)])
    assert answer.content and answer.usage_metadata["output_tokens"] <= 12
    chunks = list(short.stream([("system", "Be brief."), ("human", QUESTION)]))
    assert "".join(chunk.content for chunk in chunks) == answer.content and len(chunks) > 5


def test_langchain_binds_tools(langchain):
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    @tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"It is sunny in {city}."

    with_tools = langchain.bind_tools([get_weather], tool_choice="get_weather", strict=True)
    asked = [HumanMessage("How is the weather in Paris?")]
    answer = with_tools.invoke(asked)
    (call,) = answer.tool_calls
    assert call["name"] == "get_weather" and "city" in call["args"]
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage) and result.tool_call_id == call["id"]
    last = langchain.bind_tools([get_weather]).invoke([*asked, answer, result], max_tokens=30)
    assert last.content or last.tool_calls


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_gives_structured_answers(langchain, method):
    city = langchain.with_structured_output(City, method=method).invoke(QUESTION)
    assert isinstance(city, City) and city.name and city.country


def test_litellm_completes_and_streams(url, model):
    import litellm

    def ask(**settings):
        return litellm.completion(
            model=f"openai/{model}", api_base=f"{url}/v1", api_key="none", temperature=0, max_tokens=12,
            messages=[{"role": "user", "content": QUESTION}], **settings,
        )

    content = ask().choices[0].message.content
    assert content
    assert "".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True)) == content


def test_litellm_embeds(url, model):
    import litellm

    answer = litellm.embedding(
        model=f"openai/{model}", api_base=f"{url}/v1", api_key="none", input=["one", "two"], encoding_format="float"
    )
    assert len(answer.data) == 2 and len(answer.data[0]["embedding"]) == len(answer.data[1]["embedding"]) > 0
