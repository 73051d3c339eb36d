//! The route on a model that says what a test tells it to.

use std::time::Duration;

use inferlet::bindings::pie::inferlet::context as api;
use inferlet::http::{Body, Request};
use inferlet::testing::{Host, ScriptedModel, ScriptedServer};
use inferlet::{Model, Value, json, serde_json};

use super::{Result, route};

/// The status of an answer to a request, and its body.
async fn send(method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = Request::new(body.to_string().into());
    let (mut parts, body): (_, Body) = request.into_parts();
    parts.method = method.parse().unwrap();
    parts.uri = path.parse().unwrap();
    match route(Request::from_parts(parts, body)).await {
        Ok(response) => {
            let text = response.into_body().text(usize::MAX).await.unwrap();
            (200, serde_json::from_str(&text).unwrap_or_else(|_| json!(text)))
        }
        Err(error) => (error.status().as_u16(), error.body()),
    }
}

async fn create(body: Value) -> Value {
    let (status, answer) = send("POST", "/", body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn host() -> Host {
    Host::new()
        .model(ScriptedModel::new().says("question", "a long answer").says("endless", &"on and ".repeat(500)))
}

fn id(response: &Value) -> &str {
    response["id"].as_str().unwrap()
}

async fn snapshots() -> Vec<String> {
    let model = Model::open_default().unwrap();
    api::snapshots(model.handle()).await.unwrap().into_iter().map(|snapshot| snapshot.name).collect()
}

#[test]
fn ten_turns_compute_each_token_once() -> Result<()> {
    let host = host();
    host.run(async {
        let (mut before, mut rows) = (Value::Null, Vec::new());
        for turn in 0..10 {
            let done = host.rows();
            let body = json!({ "input": format!("question {turn}"), "previous_response_id": before["id"] });
            let answer = create(body).await;
            assert_eq!(answer["output"][0]["content"][0]["text"], "a long answer");
            let (usage, new) = (&answer["usage"], host.rows() - done);
            let prompt = usage["input_tokens"].as_u64().unwrap();
            let cached = usage["input_tokens_details"]["cached_tokens"].as_u64().unwrap();
            assert_eq!(prompt - cached + "a long answer".len() as u64, new as u64, "{turn}");
            assert_eq!(snapshots().await, [id(&answer)], "only the last turn has one");
            rows.push(new);
            before = answer;
        }
        // The end of the answer before is new, too.
        let first = "<user\nquestion 0><assistant\na long answer".len();
        assert_eq!(rows[0], first);
        assert!(rows[1..].iter().all(|new| *new == first + 1), "{rows:?}");
        let all = before["usage"]["input_tokens"].as_u64().unwrap() as usize + "a long answer".len();
        assert_eq!(rows.iter().sum::<usize>(), all);
        Ok(())
    })
}

#[test]
fn old_snapshots_make_way_and_their_answers_stay() {
    host().run(async {
        let first = create(json!({ "input": "question" })).await;
        for _ in 0..1030 {
            create(json!({ "input": "question" })).await;
        }
        let last = create(json!({ "input": "question" })).await;
        let kept = snapshots().await;
        assert_eq!(kept.len(), 1024);
        assert!(kept.iter().any(|name| name == id(&last)));
        let (status, _) = send("GET", &format!("/{}", id(&first)), Value::Null).await;
        assert_eq!(status, 200);
        create(json!({ "input": "question", "previous_response_id": id(&first) })).await;
    });
}

#[test]
fn a_deleted_answer_leaves_nothing() {
    host().run(async {
        let answer = create(json!({ "input": "question" })).await;
        let path = format!("/{}", id(&answer));
        assert_eq!(send("GET", &path, Value::Null).await, (200, answer.clone()));
        assert_eq!(send("DELETE", &path, Value::Null).await.1["deleted"], true);
        assert_eq!(send("GET", &path, Value::Null).await.0, 404);
        assert_eq!(inferlet::store::keys("").unwrap(), [""; 0]);
        assert!(snapshots().await.is_empty());
    });
}

#[test]
fn an_answer_in_the_background_is_made_or_cancelled() {
    let host = host();
    host.run(async {
        let begun = create(json!({ "input": "question", "background": true })).await;
        let cancelled = create(json!({ "input": "endless", "background": true })).await;
        assert_eq!((&begun["status"], &cancelled["status"]), (&json!("in_progress"), &json!("in_progress")));
        let (_, answer) = send("POST", &format!("/{}/cancel", id(&cancelled)), Value::Null).await;
        assert_eq!(answer["status"], "cancelled");
        inferlet::sleep(Duration::from_secs(1)).await;
        assert!(host.rows() < 1000, "{} rows: it has gone on", host.rows());
        let (_, answer) = send("GET", &format!("/{}", id(&begun)), Value::Null).await;
        assert_eq!((&answer["status"], &answer["usage"]["output_tokens"]), (&json!("completed"), &json!(14)));
        let (_, answer) = send("GET", &format!("/{}", id(&cancelled)), Value::Null).await;
        assert_eq!(answer["status"], "cancelled");
        let (status, _) =
            send("POST", "/", json!({ "input": "a", "previous_response_id": id(&cancelled) })).await;
        assert_eq!(status, 400);
    });
}

#[test]
fn a_call_is_answered_in_the_next_turn() {
    let call = "<call>look {\"at\": 1}</call>";
    let host = Host::new().model(ScriptedModel::new().says("question", call).says("it is blue", "blue"));
    host.run(async {
        let tools = json!([{ "type": "function", "name": "look", "parameters": { "type": "object" } }]);
        let answer = create(json!({ "input": "question", "tools": tools })).await;
        let called = &answer["output"][0];
        assert_eq!((&called["name"], &called["arguments"]), (&json!("look"), &json!("{\"at\": 1}")));
        let output =
            json!({ "type": "function_call_output", "call_id": called["call_id"], "output": "it is blue" });
        let previous = id(&answer);
        let body = json!({ "input": [output], "tools": tools, "previous_response_id": previous });
        assert_eq!(create(body).await["output"][0]["content"][0]["text"], "blue");
    });
}

/// A server that adds one, beside a model that calls it.
fn with_server(model: ScriptedModel) -> Host {
    let schema = json!({ "type": "object" });
    let next = |arguments: &Value| match arguments["n"].as_i64() {
        Some(n) => Ok(format!("it is {}", n + 1)),
        None => Err("`n` is no integer".to_string()),
    };
    let server =
        ScriptedServer::new("math").url("http://math/mcp").tool("next", "n + 1", schema.clone(), next);
    let other = ScriptedServer::new("other").tool("next", "the same name", schema, |_| Ok(String::new()));
    Host::new().model(model).mcp(server).mcp(other)
}

fn mcp_tool() -> Value {
    json!({ "type": "mcp", "server_label": "math", "require_approval": "never" })
}

fn kinds(response: &Value) -> Vec<&str> {
    response["output"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect()
}

#[test]
fn tools_of_servers_are_called_until_there_is_an_answer() {
    let model = ScriptedModel::new()
        .says("question", r#"<call>next {"n": 1}</call>"#)
        .says("it is 2", r#"<call>next {"n": "x"}</call><call>next {"n": 2}</call>"#)
        .says("it is 3", "three")
        .says("thanks", "welcome");
    let host = with_server(model);
    host.run(async {
        let answer = create(json!({ "input": "question", "tools": [mcp_tool()] })).await;
        assert_eq!(kinds(&answer), ["mcp_list_tools", "mcp_call", "mcp_call", "mcp_call", "message"]);
        let items = answer["output"].as_array().unwrap();
        assert_eq!(items[0]["tools"][0]["name"], "next");
        let call = |at: usize| {
            (items[at]["status"].as_str(), items[at]["output"].as_str(), items[at]["error"].as_str())
        };
        assert_eq!(call(1), (Some("completed"), Some("it is 2"), None));
        assert_eq!(call(2), (Some("failed"), None, Some("`n` is no integer")));
        assert_eq!(call(3), (Some("completed"), Some("it is 3"), None));
        assert_eq!(items[4]["content"][0]["text"], "three");
        // The next turn has all of it in its context, round by round: what is new is the question and its answer.
        let done = host.rows();
        let body = json!({ "input": "thanks", "previous_response_id": answer["id"], "tools": [mcp_tool()] });
        let next = create(body).await;
        assert_eq!(next["output"][1]["content"][0]["text"], "welcome");
        let new = "><user\nthanks><assistant\nwelcome".len();
        assert_eq!(host.rows() - done, new);
    });
    assert_eq!(host.mcp_calls().len(), 3);
}

#[test]
fn events_tell_of_lists_and_calls() {
    let model = ScriptedModel::new().says("question", r#"<call>next {"n": 1}</call>"#).says("it is 2", "two");
    with_server(model).run(async {
        let body = json!({ "input": "question", "tools": [mcp_tool()], "stream": true });
        let (_, text) = send("POST", "/", body).await;
        let text = text.as_str().unwrap().to_string();
        let events: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("event: response.")).collect();
        let mut expected = vec!["created", "in_progress"];
        expected.extend(["output_item.added", "mcp_list_tools.in_progress", "mcp_list_tools.completed"]);
        expected.extend(["output_item.done", "output_item.added", "mcp_call.in_progress"]);
        expected.extend(["mcp_call_arguments.delta", "mcp_call_arguments.done", "mcp_call.completed"]);
        expected.extend(["output_item.done", "output_item.added", "content_part.added", "output_text.delta"]);
        expected.extend(["output_text.done", "content_part.done", "output_item.done", "completed"]);
        let mut once = events.clone();
        once.dedup();
        assert_eq!(once, expected);
    });
}

#[test]
fn calls_are_bounded() {
    let model = ScriptedModel::new()
        .says("question", r#"<call>next {"n": 1}</call>"#)
        .says("it is 2", r#"<call>next {"n": 1}</call>"#);
    let host = with_server(model);
    host.run(async {
        let answer = create(json!({ "input": "question", "tools": [mcp_tool()], "max_tool_calls": 3 })).await;
        assert_eq!(kinds(&answer), ["mcp_list_tools", "mcp_call", "mcp_call", "mcp_call", "message"]);
        assert_eq!(answer["status"], "completed");
    });
    assert_eq!(host.mcp_calls().len(), 3);
}

#[test]
fn a_call_of_the_client_ends_the_answer() {
    let both = r#"<call>next {"n": 1}</call><call>look {}</call>"#;
    let model = ScriptedModel::new().says("question", both).says("it is blue", "blue");
    with_server(model).run(async {
        let look = json!({ "type": "function", "name": "look", "parameters": { "type": "object" } });
        let answer = create(json!({ "input": "question", "tools": [mcp_tool(), look] })).await;
        assert_eq!(kinds(&answer), ["mcp_list_tools", "mcp_call", "function_call"]);
        let call_id = &answer["output"][2]["call_id"];
        let output = json!({ "type": "function_call_output", "call_id": call_id, "output": "it is blue" });
        let body = json!({ "input": [output], "previous_response_id": answer["id"] });
        assert_eq!(create(body).await["output"][0]["content"][0]["text"], "blue");
    });
}

#[test]
fn what_is_wrong_with_a_server_is_named() {
    let changed = |field: &str, value: Value| {
        let mut tool = mcp_tool();
        tool[field] = value;
        json!({ "tools": [tool] })
    };
    with_server(ScriptedModel::new().says("question", "a")).run(async {
        let same = json!({ "type": "mcp", "server_label": "other", "require_approval": "never" });
        for (wrong, param) in [
            (changed("server_label", json!("none")), "tools[0].server_label"),
            (changed("server_label", Value::Null), "tools[0].server_label"),
            (changed("server_url", json!("http://evil/mcp")), "tools[0].server_url"),
            (changed("require_approval", json!("always")), "tools[0].require_approval"),
            (changed("require_approval", Value::Null), "tools[0].require_approval"),
            (changed("require_approval", json!({ "never": {} })), "tools[0].require_approval"),
            (changed("authorization", json!("secret")), "tools[0].authorization"),
            (changed("headers", json!({ "a": "b" })), "tools[0].headers"),
            (changed("connector_id", json!("connector_gmail")), "tools[0].connector_id"),
            (changed("allowed_tools", json!(["none"])), "tools[0].allowed_tools"),
            (changed("allowed_tools", json!(7)), "tools[0].allowed_tools"),
            (changed("allowed_tools", json!({ "names": [] })), "tools[0].allowed_tools.names"),
            (changed("color", json!(1)), "tools[0].color"),
            (json!({ "tools": [mcp_tool(), mcp_tool()] }), "tools[1].server_label"),
            (json!({ "tools": [mcp_tool(), same] }), "tools"),
            (json!({ "tools": [mcp_tool()], "tool_choice": { "type": "mcp", "server_label": "x", "name": "next" } }), "tool_choice"),
            (json!({ "max_tool_calls": 0 }), "max_tool_calls"),
        ] {
            let mut body = wrong.clone();
            body["input"] = json!("question");
            let (status, error) = send("POST", "/", body).await;
            assert_eq!((status, &error["error"]["param"]), (400, &json!(param)), "{wrong}: {error}");
        }
        let url = changed("server_url", json!("http://math/mcp"));
        let allowed = changed("allowed_tools", json!({ "tool_names": ["next"] }));
        for mut right in [url, allowed] {
            right["input"] = json!("question");
            assert_eq!(kinds(&create(right).await), ["mcp_list_tools", "message"]);
        }
    });
}

#[test]
fn what_nobody_makes_any_more_has_failed() {
    let host = host();
    let begun = host.run(async {
        let begun = create(json!({ "input": "endless", "background": true })).await;
        // The task that makes it begins.
        inferlet::messaging::push("any".to_string(), String::new()).await.unwrap();
        let (_, asked) = send("GET", &format!("/{}", id(&begun)), Value::Null).await;
        assert_eq!(asked["status"], "in_progress", "it is made");
        begun
    });
    // The run took its tasks with it, as a stop of the server does, which forgets what is in its memory, too.
    host.run(async {
        inferlet::messaging::forget(&format!("responses/{}/maker", id(&begun))).unwrap();
        let (status, answer) = send("GET", &format!("/{}", id(&begun)), Value::Null).await;
        assert_eq!((status, &answer["status"]), (200, &json!("failed")));
        assert!(answer["error"]["message"].as_str().unwrap().contains("the server stopped"), "{answer}");
        assert_eq!(send("GET", &format!("/{}", id(&begun)), Value::Null).await.1, answer, "it is kept so");
        let (_, cancelled) = send("POST", &format!("/{}/cancel", id(&begun)), Value::Null).await;
        assert_eq!(cancelled["status"], "failed");
    });
}
