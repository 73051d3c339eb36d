//! HTTP in both directions.

use inferlet::anyhow::bail;
use inferlet::http::{Body, Request, Response};
use inferlet::{Context, Model, Result, http, json, runtime, spawn};

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
        path => {
            let about =
                json!({ "path": path, "query": request.uri().query(), "arguments": runtime::arguments() });
            Ok(Response::new(about.to_string().into()))
        }
    }
}
