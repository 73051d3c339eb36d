//! `/docs`: the routes and their parameters as a page for people, made from `/openapi.json` by Swagger UI, which is
//! bundled: the browser asks this server and no other.

use inferlet::http::{HeaderValue, Request, Response, StatusCode, header};
use inferlet_openai::{ApiError, serve_get};

/// Name below the path, type, and content; names that end with `.gz` are without that, and compressed.
const FILES: [(&str, &str, &[u8]); 6] = [
    ("", "text/html; charset=utf-8", include_bytes!("page.html")),
    ("page.js", "text/javascript; charset=utf-8", include_bytes!("page.js")),
    (
        "swagger-ui-bundle.js.gz",
        "text/javascript; charset=utf-8",
        include_bytes!("../swagger-ui/swagger-ui-bundle.js.gz"),
    ),
    ("swagger-ui.css.gz", "text/css; charset=utf-8", include_bytes!("../swagger-ui/swagger-ui.css.gz")),
    ("LICENSE", "text/plain; charset=utf-8", include_bytes!("../swagger-ui/LICENSE")),
    ("NOTICE", "text/plain; charset=utf-8", include_bytes!("../swagger-ui/NOTICE")),
];

/// What the page may load: what comes from here, and the pictures and styles that Swagger UI has in itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve_get(request, async |path: &str| {
        let found = FILES.iter().find(|(name, ..)| name.trim_end_matches(".gz") == path);
        let Some((name, kind, content)) = found else {
            return Err(ApiError::new(StatusCode::NOT_FOUND, "nothing answers below this path"));
        };
        let mut response = Response::new(content.to_vec().into());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if name.ends_with(".gz") {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(response)
    })
    .await
}
