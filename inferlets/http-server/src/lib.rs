//! Answers HTTP requests: every request is an inferlet of its own. `/complete` streams the continuation of
//! the posted text, `/echo` and `/echo-headers` send the request back, `/wait` takes its time without holding
//! up other requests.

use std::time::{Duration, Instant};

use inferlet::http::{Body, BodyWriter, Method, Request, Response, StatusCode};
use inferlet::{Context, Model, Result, SamplingParams, http, sleep, spawn};

const TEXT_BYTES: usize = 1 << 20;

#[inferlet::serve]
async fn serve(request: Request) -> Result<Response> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => Ok(Response::new("pie serves programs, not prompts.\n".into())),
        (&Method::GET, "/wait") => {
            let start = Instant::now();
            sleep(Duration::from_millis(500)).await;
            Ok(Response::new(format!("waited {} ms\n", start.elapsed().as_millis()).into()))
        }
        (&Method::POST, "/echo") => Ok(Response::new(request.into_body())),
        (&Method::GET, "/echo-headers") => {
            let mut response = Response::new(Body::empty());
            *response.headers_mut() = request.headers().clone();
            Ok(response)
        }
        (&Method::POST, "/complete") => {
            let prompt = request.into_body().text(TEXT_BYTES).await?;
            let (writer, body) = Body::written();
            spawn(async move {
                if let Err(error) = complete(&prompt, writer).await {
                    eprintln!("{error:#}");
                }
            });
            Ok(Response::new(body))
        }
        _ => Ok(http_error(
            StatusCode::NOT_FOUND,
            "/, /wait, /echo, /echo-headers and /complete are served here\n",
        )),
    }
}

async fn complete(prompt: &str, mut writer: BodyWriter) -> Result<()> {
    let model = Model::open_default()?;
    let mut context = Context::new(&model)?;
    context.append(prompt);
    let mut generation = context.generate(SamplingParams::greedy()).max_tokens(32);
    while let Some(item) = generation.next().await? {
        writer.write(item.text).await?;
    }
    Ok(())
}

fn http_error(status: http::StatusCode, text: &str) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response
}
