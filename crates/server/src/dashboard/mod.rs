//! The dashboard: a page for a browser, in files that are a part of the binary.
//!
//! The page has no secrets and is answered without a key; what it asks for has the key that its user gives. It loads
//! nothing from elsewhere, and the browser holds it to that. `index.html` says what there is to see, and `main.js` begins.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

use crate::Front;
use crate::requests::belongs;

/// Where the page is, and below it its files.
pub(crate) const PATH: &str = "/dashboard";

/// What the page may load: what comes from here. Its own scripts and styles are files too, so nothing that a program
/// writes can become one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file as it is answered.
struct File {
    name: &'static str,
    kind: &'static str,
    content: &'static str,
}

/// A file of this folder and its type.
macro_rules! file {
    ($name:literal, $kind:literal) => {
        File { name: $name, kind: concat!($kind, "; charset=utf-8"), content: include_str!($name) }
    };
}

const PAGE: File = file!("index.html", "text/html");

/// What the page loads.
const FILES: &[File] = &[
    file!("icon.svg", "image/svg+xml"),
    file!("style.css", "text/css"),
    file!("main.js", "text/javascript"),
    file!("server.js", "text/javascript"),
    file!("metrics.js", "text/javascript"),
    file!("overview.js", "text/javascript"),
    file!("charts.js", "text/javascript"),
    file!("programs.js", "text/javascript"),
    file!("pages.js", "text/javascript"),
    file!("parameters.js", "text/javascript"),
    file!("arguments.js", "text/javascript"),
    file!("inferlets.js", "text/javascript"),
    file!("session.js", "text/javascript"),
    file!("chat.js", "text/javascript"),
    file!("dom.js", "text/javascript"),
];

/// The page.
pub(crate) async fn page(request: Request) -> Response {
    answer(&PAGE, &request)
}

/// The paths of its files.
pub(crate) fn files() -> Router<Front> {
    FILES.iter().fold(Router::new(), |router, file| {
        let handler = get(async move |request: Request| answer(file, &request));
        router.route(&format!("{PATH}/{}", file.name), handler)
    })
}

fn answer(file: &File, request: &Request) -> Response {
    belongs(request, PATH, "");
    let mut response = Response::new(Body::from(file.content));
    let headers = response.headers_mut();
    headers.extend([
        (CONTENT_TYPE, HeaderValue::from_static(file.kind)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // Another version of the server has other files at the same paths.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ]);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What is between two marks, each time they come.
    fn between<'a>(text: &'a str, begin: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(begin).skip(1).filter_map(move |rest| rest.split_once(end).map(|(found, _)| found))
    }

    #[test]
    fn every_file_of_the_folder_is_loaded_and_nothing_else() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/dashboard")).unwrap();
        let names = folder.map(|file| file.unwrap().file_name().into_string().unwrap());
        let there: BTreeSet<String> = names.filter(|name| name != "mod.rs" && name != PAGE.name).collect();
        assert_eq!(there, FILES.iter().map(|file| file.name.to_string()).collect());
        let attributes = ["src=\"", "href=\""].map(|begin| between(PAGE.content, begin, "\""));
        let of_page = attributes.into_iter().flatten().filter(|path| !path.starts_with('#'));
        let of_page = of_page.map(|path| path.strip_prefix("/dashboard/").expect(path).to_string());
        let scripts = FILES.iter().filter(|file| file.kind.starts_with("text/javascript"));
        let of_scripts =
            scripts.flat_map(|file| between(file.content, " from \"./", "\"")).map(str::to_string);
        assert_eq!(there, of_page.chain(of_scripts).collect());
    }

    #[test]
    fn nothing_names_another_host_or_writes_html() {
        for file in FILES.iter().chain([&PAGE]) {
            // Names of XML, which nobody asks for.
            let text = file.content.replace("http://www.w3.org/2000/svg", "");
            for word in
                ["http://", "https://", "innerHTML", "insertAdjacentHTML", "eval(", " style=", " onclick="]
            {
                assert!(!text.contains(word), "`{}` has `{word}`", file.name);
            }
        }
    }
}
