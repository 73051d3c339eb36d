//! HTTP in both directions.

use inferlet::anyhow::bail;
use inferlet::http::{Body, Request, Response};
use inferlet::{Context, Model, Result, clock, http, json, runtime, spawn, store};

/// Gets the URL `value`, and gives the status and the text of what came.
pub async fn fetch(value: &str) -> Result<String> {
    let response = http::get(value).await?;
    let status = response.status().as_u16();
    Ok(format!("{status} {}", response.into_body().text(1 << 20).await?))
}

/// Posts to the URL `value` a body that is written while it is sent, and gives what came back.
pub async fn upload(value: &str) -> Result<String> {
    let (mut writer, body) = Body::written();
    spawn(async move {
        for piece in 0..100 {
            if writer.write(format!("piece {piece}\n")).await.is_err() {
                return;
            }
        }
    });
    let response = http::post(value, "text/plain", body).await?;
    response.into_body().text(1 << 20).await
}

/// Gives an answer, and works on when it is out: sets a key of the store.
fn work_after(key: &'static str, answer: Response) -> Response {
    spawn(async move {
        clock::sleep(300).await;
        let _ = store::set(key.to_string(), b"done".to_vec()).await;
    });
    answer
}

#[inferlet::serve]
async fn serve(request: Request) -> Result<Response> {
    match request.uri().path() {
        "/panic" => panic!("panicked as asked"),
        "/spin" => crate::hostile::spin().map(|text| Response::new(text.into())),
        "/fail" => bail!("failed as asked"),
        // Takes pages, begins its answer, and never ends it.
        "/endless" => {
            let model = Model::open_default()?;
            let mut context = Context::new(&model)?;
            context.append("hello").prefill().await?;
            let (mut writer, body) = Body::written();
            spawn(async move {
                while writer.write("again\n").await.is_ok() {}
                drop(context);
            });
            Ok(Response::new(body))
        }
        // Each answers at once, whole, and then works on: a key of the store says that it came to its end.
        "/after" => Ok(work_after("after", Response::new("done".into()))),
        "/after-nothing" => Ok(work_after("after-nothing", Response::new(Body::empty()))),
        // Writes until its client is gone, and then works on, for its client does not end it.
        "/detached" => {
            runtime::detach();
            let (mut writer, body) = Body::written();
            spawn(async move {
                while writer.write("again\n").await.is_ok() {}
                clock::sleep(300).await;
                let _ = store::set("detached".to_string(), b"done".to_vec()).await;
            });
            Ok(Response::new(body))
        }
        // Begins its answer, and waits for an hour before it ends it.
        "/idle" => {
            let (mut writer, body) = Body::written();
            spawn(async move {
                if writer.write("hello\n").await.is_ok() {
                    clock::sleep(3_600_000).await;
                }
            });
            Ok(Response::new(body))
        }
        // Begins its answer, and panics.
        "/breaks-off" => {
            let (mut writer, body) = Body::written();
            spawn(async move {
                if writer.write("some of it\n").await.is_ok() {
                    clock::sleep(50).await;
                    panic!("panicked as asked");
                }
            });
            Ok(Response::new(body))
        }
        "/sleep" => {
            // As many milliseconds as the query says.
            let pause = request.uri().query().and_then(|query| query.parse().ok()).unwrap_or(0);
            clock::sleep(pause).await;
            Ok(Response::new(format!("slept {pause}").into()))
        }
        // What the paths above left, which it takes away.
        "/left" => {
            let key = request.uri().query().unwrap_or_default().to_string();
            let is_there = store::delete(key).await?;
            Ok(Response::new(is_there.to_string().into()))
        }
        // Reads its body to the end.
        "/read" => {
            let text = request.into_body().text(1 << 20).await?;
            Ok(Response::new(format!("{} bytes", text.len()).into()))
        }
        path => {
            let about =
                json!({ "path": path, "query": request.uri().query(), "arguments": runtime::arguments() });
            Ok(Response::new(about.to_string().into()))
        }
    }
}
