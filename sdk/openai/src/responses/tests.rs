//! The route on a model that says what a test tells it to.

use std::time::Duration;

use inferlet::bindings::pie::inferlet::context as api;
use inferlet::http::{Body, Request};
use inferlet::testing::{Host, ScriptedModel};
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
