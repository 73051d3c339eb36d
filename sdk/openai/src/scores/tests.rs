//! The routes on a model that likes documents by a word in them.

use inferlet::bindings::pie::inferlet::model::Pooling;
use inferlet::testing::{Host, ScriptedModel};
use inferlet::{Value, json, serde_json};

use super::{rerank, score};
use crate::{Fields, Result};

/// A model that says `yes` the more probably the more often `good` comes in the document, and `no` else.
fn host() -> Host {
    let model = ScriptedModel::logits(|tokens| {
        let bytes: Vec<u8> = tokens.iter().filter_map(|token| u8::try_from(*token).ok()).collect();
        let text = String::from_utf8_lossy(&bytes);
        let document = text.rsplit("<Document>: ").next().unwrap_or_default();
        let mut logits = vec![0.0; 258];
        logits[usize::from(b'y')] = document.matches("good").count() as f32 * 2.0 - 1.0;
        logits
    });
    Host::new().model(model)
}

async fn send(
    route: impl AsyncFnOnce(Fields) -> Result<inferlet::http::Response>,
    body: Value,
) -> (u16, Value) {
    let Value::Object(body) = body else { panic!("{body} is no object") };
    match route(Fields::of_object(body)).await {
        Ok(response) => {
            let text = response.into_body().text(usize::MAX).await.unwrap();
            (200, serde_json::from_str(&text).unwrap())
        }
        Err(error) => (error.status().as_u16(), error.body()["error"].clone()),
    }
}

#[test]
fn documents_are_ordered_and_their_common_beginning_is_computed_once() {
    let host = host();
    let documents = ["bad", "good good", "good", "bad"];
    let (status, answer) =
        host.run(send(rerank, json!({ "query": "which?", "documents": documents, "top_n": 3 })));
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    let order: Vec<_> = results.iter().map(|result| result["index"].as_u64().unwrap()).collect();
    assert_eq!(order, [1, 2, 0], "equal ones in the order of the request");
    assert_eq!(results[0]["document"]["text"], "good good");
    // P(yes) / (P(yes) + P(no)) with logits of 3, 1 and -1 beside 0.
    for (result, logit) in results.iter().zip([3.0_f64, 1.0, -1.0]) {
        let score = result["relevance_score"].as_f64().unwrap();
        assert!((score - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-5, "{result}");
    }
    // Behind the document come the end of its message and the header of the answer.
    let rest = |document: &str| document.len() + 1 + 1 + "assistant\n".len();
    let tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
    assert_eq!(tokens, host.rows(), "each token counts once, and is computed once");
    let one = host.run(send(rerank, json!({ "query": "which?", "documents": ["bad"] }))).1;
    let one = one["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
    let shared = one - rest("bad");
    assert_eq!(tokens, shared + documents.iter().map(|document| rest(document)).sum::<usize>());
    assert_eq!(host.passes(), 5 + 2, "one for the beginning, one for each document");
}

#[test]
fn a_score_is_that_of_the_ranking() {
    host().run(async {
        let ranked = send(
            rerank,
            json!({ "query": "a", "documents": [{ "text": "good" }], "return_documents": false }),
        );
        let ranked = ranked.await.1;
        assert!(ranked["results"][0].get("document").is_none());
        for body in [
            json!({ "text_1": "a", "text_2": ["good", "bad"] }),
            json!({ "queries": "a", "items": ["good", "bad"] }),
            json!({ "queries": ["a", "a"], "documents": ["good", "bad"] }),
        ] {
            let (status, answer) = send(score, body).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["data"][0]["score"], ranked["results"][0]["relevance_score"]);
            assert_eq!(
                (&answer["data"][1]["object"], &answer["data"][1]["index"]),
                (&json!("score"), &json!(1))
            );
        }
    });
}

#[test]
fn a_document_beyond_the_context_is_refused_by_name_or_cut_if_asked() {
    let long = "good ".repeat(2000);
    let host = host();
    host.run(async {
        let body = json!({ "query": "a", "documents": ["good", long] });
        let (status, error) = send(rerank, body.clone()).await;
        assert_eq!((status, &error["param"]), (400, &json!("documents[1]")));
        assert_eq!(error["code"], "context_length_exceeded");
        for (most, limit) in [(-1, 4096), (400, 400)] {
            let mut body = body.clone();
            body["truncate_prompt_tokens"] = json!(most);
            let (status, answer) = send(rerank, body).await;
            assert_eq!((status, &answer["results"][0]["index"]), (200, &json!(1)), "{answer}");
            assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() < limit + 20, "{answer}");
        }
        let body = json!({ "query": "a", "documents": ["good"], "truncate_prompt_tokens": 20 });
        let (status, error) = send(rerank, body).await;
        assert_eq!((status, &error["param"]), (400, &json!("query")), "{error}");
    });
}

#[test]
fn what_is_wrong_is_named() {
    host().run(async {
        let texts = vec!["a"; 1025];
        for (body, param) in [
            (json!({ "documents": ["a"] }), "query"),
            (json!({ "query": "a" }), "documents"),
            (json!({ "query": "a", "documents": [] }), "documents"),
            (json!({ "query": "a", "documents": texts }), "documents"),
            (json!({ "query": "a", "documents": ["a", 5] }), "documents[1]"),
            (json!({ "query": "a", "documents": [{ "image": "x" }] }), "documents[0].text"),
            (json!({ "query": "a", "documents": ["a"], "top_n": -1 }), "top_n"),
            (
                json!({ "query": "a", "documents": ["a"], "truncate_prompt_tokens": 0 }),
                "truncate_prompt_tokens",
            ),
            (json!({ "query": "a", "documents": ["a"], "rank_fields": ["a"] }), "rank_fields"),
        ] {
            let (status, error) = send(rerank, body.clone()).await;
            assert_eq!((status, error["param"].as_str()), (400, Some(param)), "{body}: {error}");
        }
        for (body, param) in [
            (json!({}), "text_1"),
            (json!({ "text_1": "a" }), "text_2"),
            (json!({ "text_1": ["a", "b"], "text_2": ["a", "b", "c"] }), "text_2"),
        ] {
            let (status, error) = send(score, body.clone()).await;
            assert_eq!((status, error["param"].as_str()), (400, Some(param)), "{body}: {error}");
        }
    });
}

/// An encoder whose rows say `g`, `b` or something else, so that a text is what it has of each.
fn encoder() -> Host {
    Host::new().model(ScriptedModel::encoder(Pooling::Mean, |tokens, row| match u8::try_from(tokens[row]) {
        Ok(b'g') => vec![1.0, 0.0, 0.0, 0.0],
        Ok(b'b') => vec![0.0, 1.0, 0.0, 0.0],
        _ => vec![0.0, 0.0, 1.0, 0.0],
    }))
}

#[test]
fn an_encoder_compares_vectors_and_computes_each_text_once() {
    let host = encoder();
    let (status, answer) =
        host.run(send(rerank, json!({ "query": "ggg", "documents": ["bbb", "ggg", "gbb"] })));
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    // Between two tokens that are neither.
    let expected = [(1, 1.0), (2, 7.0 / (13.0_f64.sqrt() * 3.0)), (0, 4.0 / 13.0)];
    for (result, (index, score)) in results.iter().zip(expected) {
        assert_eq!(result["index"], index);
        assert!((result["relevance_score"].as_f64().unwrap() - score).abs() < 1e-5, "{result}");
    }
    assert_eq!((host.passes(), host.rows()), (4, 4 * 5));
    assert_eq!(answer["usage"]["prompt_tokens"], 20);
    let (_, answer) = host.run(send(score, json!({ "text_1": "ggg", "text_2": "gbb" })));
    assert_eq!(answer["data"][0]["score"], results[1]["relevance_score"]);
}

#[test]
fn a_text_beyond_the_context_of_an_encoder_is_refused_by_name_or_cut_if_asked() {
    let host = encoder();
    host.run(async {
        let body = json!({ "query": "g", "documents": ["g", "g".repeat(4095)] });
        let (status, error) = send(rerank, body.clone()).await;
        assert_eq!((status, &error["param"]), (400, &json!("documents[1]")), "{error}");
        assert_eq!(error["code"], "context_length_exceeded");
        for (most, cut) in [(-1, 4096), (100, 100)] {
            let mut body = body.clone();
            body["truncate_prompt_tokens"] = json!(most);
            let (status, answer) = send(rerank, body).await;
            assert_eq!((status, &answer["usage"]["prompt_tokens"]), (200, &json!(3 + 3 + cut)), "{answer}");
        }
        let (status, error) =
            send(rerank, json!({ "query": "g", "documents": ["g"], "instruction": "x" })).await;
        assert_eq!((status, &error["param"]), (400, &json!("instruction")), "{error}");
    });
}
