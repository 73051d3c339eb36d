//! `/v1/models`: the models of the server, and the adapters, which are models too.

use inferlet::bindings::pie::inferlet::adapter;
use inferlet::http::{Request, Response, StatusCode};
use inferlet::{Model, Value, json};
use inferlet_openai::{ApiError, Result, json as response, serve_get};

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve_get(request, async |id: &str| {
        let models = models()?;
        if id.is_empty() {
            return Ok(response(&json!({ "object": "list", "data": models })));
        }
        let found = models.iter().find(|model| model["id"] == id);
        let missing = || {
            let message = format!("there is no model `{id}`");
            ApiError::new(StatusCode::NOT_FOUND, message).about("model").with_code("model_not_found")
        };
        Ok(response(found.ok_or_else(missing)?))
    })
    .await
}

fn models() -> Result<Vec<Value>> {
    let mut models = Vec::new();
    for name in Model::names() {
        let model = Model::open(&name)?;
        let facts = model.facts();
        models.push(json!({
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "pie",
            "root": name,
            "parent": null,
            "max_model_len": facts.context_length,
        }));
    }
    let default = Model::names().into_iter().next();
    for name in adapter::available()? {
        models.push(json!({
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "pie",
            "root": name,
            "parent": default,
        }));
    }
    Ok(models)
}
