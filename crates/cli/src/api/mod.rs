//! The API that applications speak: routes that are programs, and bundled with the binary. Each is one page of
//! `inferlets/`, and a `[[serve]]` entry with its path puts another program in its place.

use anyhow::Result;
use runtime::{LaunchOptions, Runtime};
use server::Front;

use crate::bundled::PROGRAMS;
use crate::config::LOCAL_USER;

/// Path and program of each route.
pub(crate) const ROUTES: &[(&str, &str)] = include!("routes.rs");

/// Mounts the routes that nothing else answers.
///
/// # Errors
/// When a program does not load.
pub(crate) async fn mount(runtime: &Runtime, front: &Front) -> Result<()> {
    let taken: Vec<String> = front.mounts().list().into_iter().map(|(path, _)| path).collect();
    for (path, name) in ROUTES.iter().filter(|(path, _)| !taken.iter().any(|taken| taken == path)) {
        let (_, wasm) = PROGRAMS.iter().find(|(program, _)| program == name).expect("all are bundled");
        let program = runtime.load(wasm.to_vec(), Some((*name).to_string())).await?;
        let options = LaunchOptions { user: LOCAL_USER.into(), ..LaunchOptions::default() };
        front.mounts().mount(path, runtime.serve(&program, options)?)?;
    }
    Ok(())
}
