//! Launches programs for clients: a `POST` of a program's name and arguments is answered with its result. So an
//! application starts an agent by one request and waits for it, where it would otherwise ask the model step by step.
//! Whoever may send requests here may run every program that the server knows by name.

use std::time::Instant;

use inferlet::http::{Request, Response, StatusCode};
use inferlet::{Error, json, runtime};
use inferlet_openai::{ApiError, Fields, json as response, serve};

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, async |mut fields: Fields| {
        let program: String = fields.required("program")?;
        let arguments: Vec<String> = fields.get("arguments")?.unwrap_or_default();
        fields.finish()?;

        let start = Instant::now();
        let child = runtime::launch(program.clone(), arguments).await;
        let child = child.map_err(|error| ApiError::from(error).about("program"))?;
        let launch_us = start.elapsed().as_micros() as u64;
        let result = child.wait().await.map_err(|error| {
            let why = match error {
                Error::Closed(why) => why,
                other => other.to_string(),
            };
            ApiError::new(StatusCode::BAD_GATEWAY, format!("`{program}` failed: {why}"))
        })?;
        let us = start.elapsed().as_micros() as u64;
        Ok(response(&json!({ "id": child.id(), "result": result, "launch_us": launch_us, "us": us })))
    })
    .await
}
