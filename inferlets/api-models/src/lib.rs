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
    let names = Model::names();
    let entry = |name: &str, parent: Option<&String>| json!({ "id": name, "object": "model", "created": 0, "owned_by": "pie", "root": name, "parent": parent });
    let mut models = Vec::new();
    for name in &names {
        let mut model = entry(name, None);
        model["max_model_len"] = json!(Model::open(name)?.facts().context_length);
        models.push(model);
    }
    models.extend(adapter::available()?.iter().map(|name| entry(name, names.first())));
    Ok(models)
}
