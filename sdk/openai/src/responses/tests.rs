//! The route on a model that says what a test tells it to.

use std::time::Duration;

use inferlet::bindings::pie::inferlet::context as api;
use inferlet::futures::future::join;
use inferlet::http::{Body, Request};
use inferlet::testing::{Host, ScriptedModel, ScriptedServer};
use inferlet::{Model, Value, json, serde_json};

use super::{Result, route};

fn request(method: &str, path: &str, body: &Value) -> Request {
    let (mut parts, body): (_, Body) = Request::new(body.to_string().into()).into_parts();
    parts.method = method.parse().unwrap();
    parts.uri = path.parse().unwrap();
    Request::from_parts(parts, body)
}

/// The status of an answer to a request, and its body.
async fn send(method: &str, path: &str, body: Value) -> (u16, Value) {
    match route(request(method, path, &body)).await {
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
fn what_a_tool_gives_is_cut_to_the_context() {
    let schema = json!({ "type": "object" });
    let server = || {
        ScriptedServer::new("math")
            .tool("next", "all of it", schema.clone(), |_| Ok("word ".repeat(100_000)))
            .tool("fail", "fails at length", schema.clone(), |_| Err("wrong ".repeat(100_000)))
    };
    let tool = json!({ "type": "mcp", "server_label": "math", "require_approval": "never" });
    let model = || ScriptedModel::new().context_length(1500).says("context has no room]", "enough");
    for (called, field, status) in [("next", "output", "completed"), ("fail", "error", "failed")] {
        let model = model().says("question", &format!("<call>{called} {{}}</call>"));
        Host::new().model(model).mcp(server()).run(async {
            let answer = create(json!({ "input": "question", "tools": [tool] })).await;
            assert_eq!(kinds(&answer), ["mcp_list_tools", "mcp_call", "message"], "{answer}");
            let item = &answer["output"][1];
            let text = item[field].as_str().unwrap();
            assert!(item["status"] == status && text.len() < 1500 && text.contains("are missing"), "{item}");
            assert_eq!(answer["output"][2]["content"][0]["text"], "enough");
            // The next turn has the same in its context.
            let body =
                json!({ "input": "question", "previous_response_id": answer["id"], "max_output_tokens": 1 });
            assert_eq!(create(body).await["status"], "incomplete");
        });
    }
    // One that calls until the context is full has an answer all the same, which says so.
    let endless = ScriptedModel::new()
        .context_length(1500)
        .says("question", "<call>next {}</call>")
        .says("context has no room]", "<call>next {}</call>");
    Host::new().model(endless).mcp(server()).run(async {
        let answer = create(json!({ "input": "question", "tools": [tool] })).await;
        assert_eq!(
            (&answer["status"], &answer["incomplete_details"]["reason"]),
            (&json!("incomplete"), &json!("max_output_tokens"))
        );
        let last = answer["output"].as_array().unwrap().last().unwrap();
        assert!(last["error"].as_str().unwrap().contains("it was not made"), "{last}");
        assert_eq!(send("GET", &format!("/{}", id(&answer)), Value::Null).await, (200, answer));
    });
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

/// The events in the body of a stream, and whether it has its mark at the end.
fn events_of(text: &str) -> (Vec<Value>, bool) {
    let data = || text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = data().filter(|line| *line != "[DONE]").map(|line| serde_json::from_str(line).unwrap());
    (events.collect(), data().any(|line| line == "[DONE]"))
}

/// Begins a stream in the background: the id of its answer, from its first event, and what is left of it.
async fn begin_stream(input: &str) -> (String, Body) {
    let body = json!({ "input": input, "background": true, "stream": true });
    let mut stream = route(request("POST", "/", &body)).await.unwrap().into_body();
    let first = String::from_utf8(stream.next().await.unwrap().unwrap()).unwrap();
    let (events, _) = events_of(&first);
    assert_eq!(
        (&events[0]["type"], &events[0]["response"]["status"]),
        (&json!("response.created"), &json!("in_progress"))
    );
    (id(&events[0]["response"]).to_string(), stream)
}

/// All events behind a number.
async fn follow(id: &str, after: Option<u64>) -> Vec<Value> {
    let after = after.map_or(String::new(), |after| format!("&starting_after={after}"));
    let (status, text) = send("GET", &format!("/{id}?stream=true{after}"), Value::Null).await;
    assert_eq!(status, 200, "{text}");
    let (events, is_whole) = events_of(text.as_str().unwrap());
    assert!(is_whole, "{text}");
    events
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect()
}

#[test]
fn events_of_an_answer_in_the_background_can_be_had_again() {
    let host = host();
    host.run(async {
        let body = json!({ "input": "question", "background": true, "stream": true });
        let (_, text) = send("POST", "/", body).await;
        let (events, is_whole) = events_of(text.as_str().unwrap());
        assert!(is_whole);
        assert_eq!(numbers(&events), (0..events.len() as u64).collect::<Vec<_>>());
        let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(
            (kinds[0], kinds[1], *kinds.last().unwrap()),
            ("response.created", "response.in_progress", "response.completed")
        );
        let id = id(&events[0]["response"]).to_string();
        let (_, answer) = send("GET", &format!("/{id}"), Value::Null).await;
        assert_eq!(events.last().unwrap()["response"], answer);
        // A stream of the client's own tells the same.
        let (_, other) = send("POST", "/", json!({ "input": "question", "stream": true })).await;
        let (other, _) = events_of(other.as_str().unwrap());
        assert_eq!(other.iter().map(|event| event["type"].as_str().unwrap()).collect::<Vec<_>>(), kinds);
        let done = host.rows();
        assert_eq!(follow(&id, None).await, events);
        for after in [0, 3, events.len() - 2, events.len() - 1, 1 << 40] {
            let rest = events.get(after + 1..).unwrap_or_default();
            assert_eq!(follow(&id, Some(after as u64)).await, rest, "{after}");
        }
        assert_eq!(follow(&id, Some(u64::MAX)).await, [Value::Null; 0]);
        assert_eq!(host.rows(), done, "nothing is computed again");
        for (query, param) in [
            ("stream=maybe", "stream"),
            ("stream=true&starting_after=x", "starting_after"),
            ("stream=true&starting_after=-1", "starting_after"),
            ("starting_after=1", "starting_after"),
            ("stream=true&include_obfuscation=true", "include_obfuscation"),
            ("stream=true&color=1", "color"),
        ] {
            let (status, error) = send("GET", &format!("/{id}?{query}"), Value::Null).await;
            assert_eq!((status, &error["error"]["param"]), (400, &json!(param)), "{query}: {error}");
        }
        send("DELETE", &format!("/{id}"), Value::Null).await;
        assert_eq!(send("GET", &format!("/{id}?stream=true"), Value::Null).await.0, 404);
        assert!(inferlet::store::keys("response-events/").unwrap().is_empty());
        // Of others nothing is kept.
        for body in [json!({ "input": "question" }), json!({ "input": "question", "background": true })] {
            let other = create(body).await;
            let path = format!("/{}?stream=true", super::tests::id(&other));
            let (status, error) = send("GET", &path, Value::Null).await;
            assert_eq!((status, &error["error"]["param"]), (400, &json!("stream")), "{error}");
        }
    });
}

#[test]
fn an_answer_in_the_background_outlives_its_client() {
    host().run(async {
        let (id, stream) = begin_stream("endless").await;
        drop(stream);
        let (events, again) = join(follow(&id, Some(0)), follow(&id, None)).await;
        assert_eq!(events.last().unwrap()["type"], "response.completed");
        assert_eq!(numbers(&events), (1..=events.len() as u64).collect::<Vec<_>>());
        assert_eq!(again[1..], events);
        let said: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
        assert_eq!(said, "on and ".repeat(500));
        assert!(events.len() > 3500, "some blocks");
    });
}

#[test]
fn a_cancelled_answer_ends_its_events() {
    host().run(async {
        let (id, stream) = begin_stream("endless").await;
        let cancel = async {
            for _ in 0..300 {
                inferlet::messaging::push("any".to_string(), String::new()).await.unwrap();
            }
            send("POST", &format!("/{id}/cancel"), Value::Null).await
        };
        let (text, (_, cancelled)) = join(stream.text(usize::MAX), cancel).await;
        assert_eq!(cancelled["status"], "cancelled");
        let (events, is_whole) = events_of(&text.unwrap());
        let last = events.last().unwrap();
        assert!(is_whole && events.len() > 10, "{} events", events.len());
        assert_eq!((&last["type"], &last["response"]), (&json!("response.cancelled"), &cancelled));
        assert_eq!(follow(&id, Some(0)).await, events);
    });
}

#[test]
fn a_deleted_answer_ends_its_events_with_an_error() {
    host().run(async {
        let (id, stream) = begin_stream("endless").await;
        let delete = async {
            inferlet::messaging::push("any".to_string(), String::new()).await.unwrap();
            send("DELETE", &format!("/{id}"), Value::Null).await
        };
        let (text, _) = join(stream.text(usize::MAX), delete).await;
        let (events, is_whole) = events_of(&text.unwrap());
        let error = &events.last().unwrap()["error"];
        assert!(!is_whole && error["message"].as_str().unwrap().contains("deleted"), "{error}");
        inferlet::sleep(Duration::from_secs(1)).await;
        assert_eq!(inferlet::store::keys("").unwrap(), [""; 0]);
    });
}

#[test]
fn events_that_a_stop_broke_off_end_with_the_failure() {
    for forgets in [true, false] {
        let host = host();
        let (id, seen) = host.run(async {
            let (id, mut stream) = begin_stream("endless").await;
            let mut text = String::new();
            for _ in 0..400 {
                text += &String::from_utf8(stream.next().await.unwrap().unwrap()).unwrap();
            }
            (id, events_of(&text).0)
        });
        let last = *numbers(&seen).last().unwrap();
        host.run(async {
            // A stop forgets what is in memory. Where it is the program alone that ended, its silence tells.
            if forgets {
                for topic in ["maker", "events"] {
                    inferlet::messaging::forget(&format!("responses/{id}/{topic}")).unwrap();
                }
            }
            let rest = follow(&id, Some(last)).await;
            let failed = rest.last().unwrap();
            assert_eq!(
                (&failed["type"], &failed["response"]["status"]),
                (&json!("response.failed"), &json!("failed"))
            );
            assert!(numbers(&rest).is_sorted_by(|a, b| a < b) && numbers(&rest)[0] > last);
            let why = failed["response"]["error"]["message"].as_str().unwrap();
            assert!(why.contains(if forgets { "the server stopped" } else { "has ended" }), "{why}");
            assert_eq!(follow(&id, Some(last)).await.last(), Some(failed));
            // What a block has is there.
            assert_eq!(follow(&id, Some(0)).await[..200], seen[..200]);
        });
    }
}

#[test]
fn events_are_kept_of_the_last_answers() {
    host().run(async {
        let mut ids = Vec::new();
        for _ in 0..66 {
            let (id, stream) = begin_stream("question").await;
            stream.text(usize::MAX).await.unwrap();
            ids.push(id);
        }
        // Those of one second are in any order.
        let mut kept = 0;
        for id in &ids {
            let status = send("GET", &format!("/{id}?stream=true"), Value::Null).await.0;
            kept += usize::from(status == 200);
            assert!(status == 200 || status == 400, "{status}");
            assert_eq!(send("GET", &format!("/{id}"), Value::Null).await.1["status"], "completed");
        }
        assert_eq!(kept, 64);
    });
}
