//! `/v1/responses`: answers that the server keeps, and conversations that go on from them, as the OpenAI API and Open
//! Responses have it.
//!
//! ```text
//! POST   /                    answers; `previous_response_id` goes on from an answer
//! GET    /{id}                an answer that was kept; with `stream=true` the events of one in the background, those
//!                             behind number `starting_after`
//! DELETE /{id}                forgets it
//! GET    /{id}/input_items    what it was asked, by this request alone
//! POST   /{id}/cancel         ends one that is made in the background
//! ```
//!
//! An answer in the background is made by the program of its own request, which goes on whether its client stays or
//! not; a stop of the server ends it, and who asks for it then is told that it has failed. Sampling parameters of the
//! other routes, such as `seed` and `min_p`, are taken here as well.

mod create;
mod events;
mod items;
mod journal;
mod mcp;
mod output;
mod record;
mod request;
mod room;
#[cfg(test)]
mod tests;

use inferlet::http::{Method, Request, Response};
use inferlet::serde_json::Map;
use inferlet::{Value, json};

use crate::server::{nothing_below, only};
use crate::{ApiError, Events, Fields, Result, json as response};
use record::Record;
pub use request::ResponseRequest;

/// Answers a request to the route, or to an answer below it.
///
/// # Errors
/// With the parameter that is wrong, 404 when there is no such answer, and as for a generation.
pub async fn route(request: Request) -> Result<Response> {
    let path = request.uri().path().trim_matches('/').to_string();
    let mut query = query(request.uri().query().unwrap_or_default())?;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let answer = match parts.as_slice() {
        [] => {
            only(&request, &Method::POST)?;
            return ResponseRequest::read(Fields::of_body(request).await?).await?.answer().await;
        }
        [id] if request.method() == Method::DELETE => Record::load(id)?.delete().await?,
        [id] => {
            only(&request, &Method::GET)?;
            if let Some(after) = stream(&mut query)? {
                query.finish()?;
                Record::load(id)?;
                journal::check(id)?;
                let id = id.to_string();
                return Ok(Events::response(async move |events| journal::follow(&id, after, events).await));
            }
            Record::load_now(id).await?.response
        }
        [id, "input_items"] => {
            only(&request, &Method::GET)?;
            page(Record::load(id)?.input, &mut query)?
        }
        [id, "cancel"] => {
            only(&request, &Method::POST)?;
            Record::load_now(id).await?.cancel().await?
        }
        _ => return Err(nothing_below()),
    };
    query.finish()?;
    Ok(response(&answer))
}

/// The parameters of an address; none of them has characters that are escaped.
fn query(query: &str) -> Result<Fields> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_string(), json!(value))
    };
    Ok(Fields::of_object(pairs.map(pair).collect::<Map<String, Value>>()))
}

/// Whether events are wanted, and if so, the number of the last one that the client has.
fn stream(query: &mut Fields) -> Result<Option<Option<u64>>> {
    let is_wanted = match query.get::<String>("stream")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(ApiError::invalid("stream", format!("`{other}` is neither `true` nor `false`")));
        }
    };
    let after = match query.get::<String>("starting_after")? {
        None => None,
        Some(_) if !is_wanted => {
            return Err(ApiError::invalid("starting_after", "is for events: it needs `stream=true`"));
        }
        Some(text) => Some(text.parse().map_err(|_| {
            ApiError::invalid("starting_after", format!("`{text}` is no number of an event"))
        })?),
    };
    query.only("include_obfuscation", &[json!("false")])?;
    Ok(is_wanted.then_some(after))
}

/// Items of one page: `limit` of them behind the one with the id `after`, the last ones first unless `order` is `asc`.
fn page(mut items: Vec<Value>, query: &mut Fields) -> Result<Value> {
    let limit = match query.get::<String>("limit")? {
        None => 20,
        Some(text) => match text.parse() {
            Ok(limit @ 1..=100) => limit,
            _ => return Err(ApiError::invalid("limit", format!("`{text}` is no number from 1 to 100"))),
        },
    };
    match query.get::<String>("order")?.as_deref() {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(other) => {
            return Err(ApiError::invalid("order", format!("`{other}` is none of `asc` and `desc`")));
        }
    }
    if let Some(after) = query.get::<String>("after")? {
        let at = items.iter().position(|item| item["id"] == after.as_str());
        let at = at.ok_or_else(|| ApiError::invalid("after", format!("there is no item `{after}`")))?;
        items.drain(..=at);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    Ok(json!({
        "object": "list",
        "first_id": id(items.first()),
        "last_id": id(items.last()),
        "has_more": has_more,
        "data": items,
    }))
}

#[cfg(test)]
mod page_tests {
    use super::*;

    #[test]
    fn pages_go_through_the_items() {
        let items = || -> Vec<Value> { (0..5).map(|id| json!({ "id": id.to_string() })).collect() };
        let ids = |text: &str| {
            let page = page(items(), &mut query(text).unwrap()).unwrap();
            let ids: Vec<String> = page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["id"].as_str().unwrap().to_string())
                .collect();
            (ids.concat(), page["has_more"].as_bool().unwrap())
        };
        assert_eq!(ids(""), ("43210".to_string(), false));
        assert_eq!(ids("limit=2"), ("43".to_string(), true));
        assert_eq!(ids("limit=2&order=asc&after=2"), ("34".to_string(), false));
        for wrong in ["limit=0", "limit=x", "order=up", "after=9"] {
            assert!(page(items(), &mut query(wrong).unwrap()).is_err(), "{wrong}");
        }
    }
}
