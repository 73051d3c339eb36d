//! The route on a model that says what a test tells it to.

use inferlet::serde_json;
use inferlet::testing::{Host, ScriptedModel};

use super::*;

fn send(host: &Host, body: Value) -> (u16, Value) {
    let Value::Object(body) = body else { panic!("{body} is no object") };
    let answer = host.run(async {
        let request = ChatRequest::read(Fields::of_object(body)).await?;
        Ok(request.answer().await?.into_body().text(usize::MAX).await.unwrap())
    });
    match answer {
        Ok(text) => (200, serde_json::from_str(&text).unwrap_or_else(|_| json!(text))),
        Err(error) => (ApiError::status(&error).as_u16(), error.body()["error"].clone()),
    }
}

fn message(host: &Host, body: Value) -> Value {
    let (status, answer) = send(host, body);
    assert_eq!(status, 200, "{answer}");
    answer["choices"][0]["message"].clone()
}

#[test]
fn the_last_message_goes_on_and_only_what_is_new_is_the_answer() {
    let host = Host::new().model(ScriptedModel::new().says("I am", " fine.").says("ask", "I am here."));
    let messages = json!([{ "role": "user", "content": "ask" }, { "role": "assistant", "content": "I am" }]);
    for header in [Value::Null, json!(false)] {
        let body = json!({
            "messages": messages, "continue_final_message": true, "add_generation_prompt": header,
        });
        let (_, answer) = send(&host, body);
        assert_eq!(answer["choices"][0]["message"]["content"], " fine.");
        assert_eq!(answer["usage"]["prompt_tokens"], "<user\nask><assistant\nI am".len());
    }
    // Without a header, the model writes whatever comes next.
    let host = Host::new().model(ScriptedModel::new().says("ask", "").says("<|end|>", "<assistant>"));
    let body = json!({ "messages": [{ "role": "user", "content": "ask" }], "add_generation_prompt": false });
    assert_eq!(message(&host, body)["content"], "<assistant>");
}

#[test]
fn a_message_that_cannot_go_on_is_refused() {
    let host = Host::new().model(ScriptedModel::new());
    let call = json!([{ "id": "1", "type": "function", "function": { "name": "a", "arguments": "{}" } }]);
    let user = json!([{ "role": "user", "content": "a" }]);
    for body in [
        json!({ "messages": user, "continue_final_message": true, "add_generation_prompt": true }),
        json!({ "messages": [{ "role": "assistant", "tool_calls": call }], "continue_final_message": true }),
        json!({ "messages": user, "continue_final_message": 1 }),
    ] {
        let (status, error) = send(&host, body);
        assert_eq!((status, error["param"].as_str()), (400, Some("continue_final_message")), "{error}");
    }
}

#[test]
fn thoughts_end_at_their_budget_and_the_answer_goes_on() {
    let thoughts = format!("<think>{}", "hm ".repeat(50));
    let model = || ScriptedModel::new().says("ask", &thoughts).says("</think>\n\n", "Four.");
    let asked = |budget: Value| {
        let mut body = budget;
        body["messages"] = json!([{ "role": "user", "content": "ask" }]);
        body["max_tokens"] = json!(100);
        body
    };
    let answer = message(&Host::new().model(model()), asked(json!({ "thinking_token_budget": 8 })));
    assert_eq!(answer["reasoning_content"], "hm hm hm\n");
    assert_eq!(answer["content"], "\n\nFour.");
    // Its own end comes after the 100 tokens that the answer may have, and those of an effort after more.
    for body in [json!({ "thinking_token_budget": -1 }), json!({ "reasoning_effort": "low" }), json!({})] {
        let answer = message(&Host::new().model(model()), asked(body));
        assert_eq!(answer["content"], "");
    }
    let mut body = asked(json!({ "reasoning_effort": "minimal" }));
    body["max_tokens"] = json!(700);
    let long = ScriptedModel::new().says("ask", &format!("<think>{}", "hm ".repeat(300)));
    let answer = message(&Host::new().model(long.says("</think>\n\n", "Four.")), body);
    assert_eq!(answer["reasoning_content"].as_str().unwrap().trim_end().len(), 512);
    let (status, error) = send(&Host::new().model(model()), asked(json!({ "thinking_token_budget": -2 })));
    assert_eq!((status, error["param"].as_str()), (400, Some("thinking_token_budget")));
}

#[test]
fn a_form_begins_behind_the_thoughts() {
    let format = json!({ "type": "json_schema", "json_schema": { "schema": {
        "type": "object", "properties": { "a": { "const": 1 } }, "required": ["a"], "additionalProperties": false,
    } } });
    let body = |format: &Value| {
        json!({
            "messages": [{ "role": "user", "content": "ask" }], "response_format": format, "max_tokens": 60,
        })
    };
    // What is drawn in the form is the model's best guess: here the first brace.
    let model = || {
        ScriptedModel::new()
            .says("<think>\n", "a { is no object</think>{\"a\":1} and more")
            .says("ask", "{\"a\":1}")
    };
    let answer = message(&Host::new().model(model().thinking()), body(&format));
    assert_eq!(answer["reasoning_content"].as_str().unwrap().trim_start(), "a { is no object");
    let content: Value = serde_json::from_str(answer["content"].as_str().unwrap()).unwrap();
    assert_eq!(content, json!({ "a": 1 }));
    // One that does not think, or is told not to, begins with the form.
    let mut told = body(&format);
    told["chat_template_kwargs"] = json!({ "enable_thinking": false });
    for (model, body) in [(model(), body(&format)), (model().thinking(), told)] {
        let answer = message(&Host::new().model(model), body);
        assert!(answer.get("reasoning_content").is_none(), "{answer}");
        let content: Value = serde_json::from_str(answer["content"].as_str().unwrap()).unwrap();
        assert_eq!(content, json!({ "a": 1 }));
    }
    // A budget closes thoughts that do not end, and the form follows.
    let endless =
        ScriptedModel::new().says("<think>\n", &"hm ".repeat(100)).says("</think>", "{\"a\":1}").thinking();
    let mut short = body(&format);
    short["thinking_token_budget"] = json!(9);
    let answer = message(&Host::new().model(endless), short);
    assert_eq!(answer["reasoning_content"].as_str().unwrap().trim(), "hm hm hm");
    let content: Value = serde_json::from_str(answer["content"].as_str().unwrap()).unwrap();
    assert_eq!(content, json!({ "a": 1 }));
}

#[test]
fn calls_begin_behind_the_thoughts() {
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": { "type": "object" } } });
    let body = |choice: Value| {
        json!({
            "messages": [{ "role": "user", "content": "ask" }], "tools": [tool("look"), tool("listen")],
            "tool_choice": choice, "max_tokens": 60,
        })
    };
    let named = |name: &str| json!({ "type": "function", "function": { "name": name } });
    // Left to itself, it would answer without a call.
    let model = || {
        ScriptedModel::new()
            .says("<think>\n", "what is it?</think>It is blue.")
            .says("<call>look ", "{\"at\":1}</call>")
            .says("<call>listen ", "{\"to\":2}</call>")
            .says("ask", "It is blue.")
            .says("<call>", "look ")
    };
    let called = |answer: &Value| {
        let calls = answer["tool_calls"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
        let function = &calls[0]["function"];
        (function["name"].as_str().unwrap().to_string(), function["arguments"].as_str().unwrap().to_string())
    };
    let look = ("look".to_string(), "{\"at\":1}".to_string());
    let listen = ("listen".to_string(), "{\"to\":2}".to_string());
    for (choice, expected) in [(json!("required"), &look), (named("look"), &look), (named("listen"), &listen)]
    {
        let host = Host::new().model(model().thinking());
        let (_, answer) = send(&host, body(choice.clone()));
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");
        let message = &answer["choices"][0]["message"];
        assert_eq!(message["reasoning_content"].as_str().unwrap().trim(), "what is it?");
        assert_eq!(&called(message), expected, "{choice}");
        assert!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 5);
        // One that does not think, or is told not to, begins with the call.
        let mut told = body(choice);
        told["chat_template_kwargs"] = json!({ "enable_thinking": false });
        let plain = message_of_both(&model, told, expected, &called);
        assert!(plain.get("reasoning_content").is_none(), "{plain}");
    }
    // A form is for what is said, and an answer that must call says nothing.
    let mut both = body(json!("required"));
    both["response_format"] = json!({ "type": "json_object" });
    assert_eq!(called(&message(&Host::new().model(model().thinking()), both)), look);
    // A budget closes thoughts that do not end, and the call follows; empty lines may come before it.
    let endless = ScriptedModel::new()
        .says("<think>\n", &"hm ".repeat(100))
        .says("</think>", "\n\n<call>look {\"at\":1}</call>")
        .thinking();
    let mut short = body(json!("required"));
    short["thinking_token_budget"] = json!(9);
    let answer = message(&Host::new().model(endless), short);
    assert_eq!(answer["reasoning_content"].as_str().unwrap().trim(), "hm hm hm");
    assert_eq!(called(&answer), look);
}

fn message_of_both(
    model: &dyn Fn() -> ScriptedModel,
    body: Value,
    expected: &(String, String),
    called: &dyn Fn(&Value) -> (String, String),
) -> Value {
    let plain = message(&Host::new().model(model()), body.clone());
    assert_eq!(&called(&plain), expected);
    let told = message(&Host::new().model(model().thinking()), body);
    assert_eq!(&called(&told), expected);
    told
}

#[test]
fn events_have_the_usage_so_far_where_it_is_asked_for() {
    let host = Host::new().model(ScriptedModel::new().says("ask", "<think>ab</think>cde"));
    let events = |options: Value| -> Vec<Value> {
        let body = json!({
            "messages": [{ "role": "user", "content": "ask" }], "stream": true, "stream_options": options,
        });
        let (_, text) = send(&host, body);
        let events = text.as_str().unwrap().split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        events.filter(|event| *event != "[DONE]").map(|event| serde_json::from_str(event).unwrap()).collect()
    };
    let all = events(json!({ "include_usage": true, "continuous_usage_stats": true }));
    let counts: Vec<u64> =
        all.iter().map(|event| event["usage"]["completion_tokens"].as_u64().unwrap()).collect();
    let (last, before) = counts.split_last().unwrap();
    assert!(before[0] == 0 && before.is_sorted() && before.last() == Some(last), "{counts:?}");
    assert!(before.windows(2).all(|pair| pair[1] - pair[0] < 12), "in pieces: {counts:?}");
    let with = |options: Value| events(options).iter().filter(|event| !event["usage"].is_null()).count();
    assert_eq!(
        (with(json!({ "include_usage": true })), with(json!({ "continuous_usage_stats": true }))),
        (1, 0)
    );
}
