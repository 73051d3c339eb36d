//! The API that applications speak: routes that are programs, and bundled with the binary. Each is one page of
//! `inferlets/`, and a `[[serve]]` entry with its path puts another program in its place.

use anyhow::Result;
use runtime::{LaunchOptions, Runtime};
use server::Front;

use crate::bundled::PROGRAMS;
use crate::config::LOCAL_USER;
use crate::progress;

/// Path and program of each route.
pub(crate) const ROUTES: &[(&str, &str)] = include!("routes.rs");

/// Mounts the routes that nothing else answers. Each program of them is compiled where that was not done before, which
/// takes some seconds for all together: a terminal shows how far it is.
///
/// # Errors
/// When a program does not load.
pub(crate) async fn mount(runtime: &Runtime, front: &Front) -> Result<()> {
    let taken: Vec<String> = front.mounts().list().into_iter().map(|(path, _)| path).collect();
    let free: Vec<_> = ROUTES.iter().filter(|(path, _)| !taken.iter().any(|taken| taken == path)).collect();
    let progress = progress::spinner("preparing the API");
    for (nth, (path, name)) in free.iter().enumerate() {
        progress.set_message(format!("preparing {name} for {path}, {} of {}", nth + 1, free.len()));
        let (_, wasm) = PROGRAMS.iter().find(|(program, _)| program == name).expect("all are bundled");
        let program = runtime.load(wasm.to_vec(), Some((*name).to_string())).await?;
        let options = LaunchOptions { user: LOCAL_USER.into(), ..LaunchOptions::default() };
        front.mounts().mount(path, runtime.serve(&program, options)?)?;
    }
    progress.finish_and_clear();
    Ok(())
}
