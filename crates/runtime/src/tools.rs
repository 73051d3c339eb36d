//! Calls of programs to MCP servers: who may call, and what a call costs its inferlet.
//!
//! A call is a task of its own, so that it goes on while its program is in another call, and ends with it. It holds as
//! much host memory as its arguments and its result may have.

use std::sync::Arc;

use mcp::{Error, Outcome, Server, Servers, Tool};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::apart::apart;
use crate::error::{ApiError, check_length, invalid};
use crate::inferlet::InferletState;

/// Calls that one inferlet has under way.
const CALLS: usize = 16;

/// Places for the calls of one inferlet.
pub(crate) fn calls() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CALLS))
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        let text = error.to_string();
        match error {
            Error::Unreachable { .. } | Error::Broken { .. } | Error::Late { .. } => ApiError::Closed(text),
            Error::Busy { .. } | Error::TooLong { .. } => ApiError::LimitExceeded(text),
            Error::NotAllowed { .. } => ApiError::Denied(text),
            Error::Refused { .. } => ApiError::InvalidArgument(text),
            Error::Failed { .. } => ApiError::Backend(text),
            Error::TooLarge { .. } => ApiError::LimitExceeded(text),
        }
    }
}

/// The servers that an inferlet may call: its user may, and its key.
pub(crate) fn allowed<'a>(
    servers: &'a Servers,
    inferlet: &'a InferletState,
) -> impl Iterator<Item = &'a Arc<Server>> {
    servers.of(&inferlet.user.name).filter(|server| inferlet.grant.allows_mcp(server.name()))
}

/// The server of a name, if the inferlet may call it.
fn named(servers: &Servers, inferlet: &InferletState, name: &str) -> Result<Arc<Server>, ApiError> {
    let found = allowed(servers, inferlet).find(|server| server.name() == name).cloned();
    found.ok_or_else(|| {
        let known: Vec<&str> = allowed(servers, inferlet).map(|server| server.name()).collect();
        let known = if known.is_empty() { "none is configured".to_string() } else { known.join(", ") };
        ApiError::NotFound(format!("no MCP server `{}`; the operator allows: {known}", shown(name)))
    })
}

/// The server of an address, if the inferlet may call it.
pub(crate) fn at(servers: &Servers, inferlet: &InferletState, url: &str) -> Result<Arc<Server>, ApiError> {
    let found = allowed(servers, inferlet).find(|server| server.url() == Some(url)).cloned();
    found.ok_or_else(|| {
        ApiError::NotFound(format!("no MCP server at `{}` is configured by the operator", shown(url)))
    })
}

/// The beginning of a text, for errors.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The tools of a server.
pub(crate) async fn list(
    servers: &Servers,
    inferlet: &InferletState,
    name: &str,
) -> Result<Vec<Tool>, ApiError> {
    let server = named(servers, inferlet, name)?;
    let user = inferlet.user.name.clone();
    bounded(inferlet, server.clone(), 0, async move { server.tools(&user).await }).await
}

/// Calls a tool of a server with arguments, a JSON object.
pub(crate) async fn call(
    servers: &Servers,
    inferlet: &InferletState,
    name: &str,
    tool: String,
    arguments: String,
) -> Result<Outcome, ApiError> {
    let server = named(servers, inferlet, name)?;
    let bytes = arguments.len() + tool.len();
    check_length("the arguments with the name of the tool", bytes, server.limits().argument_bytes)?;
    let arguments = match serde_json::from_str(&arguments) {
        Ok(Value::Object(arguments)) => arguments,
        Ok(_) => return Err(invalid("the arguments are no JSON object, but another JSON value")),
        Err(error) => return Err(invalid(format!("the arguments are no JSON object: {error}"))),
    };
    let user = inferlet.user.name.clone();
    let of = server.clone();
    let call = async move { of.call(&user, &tool, arguments).await };
    bounded(inferlet, server.clone(), bytes, call).await
}

async fn bounded<T: Send + 'static>(
    inferlet: &InferletState,
    server: Arc<Server>,
    bytes: usize,
    call: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, ApiError> {
    // Given back at once when the call is given up; the memory is when its task has ended.
    let _place = inferlet.tool_calls.clone().try_acquire_owned().map_err(|_| {
        ApiError::LimitExceeded(format!("{CALLS} calls of this inferlet wait for MCP servers, the limit"))
    })?;
    let held = inferlet.host_memory.take((bytes + server.limits().result_bytes) as u64)?;
    let call = async move {
        let _held = held;
        call.await
    };
    match apart(call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::Backend(format!("the call of MCP server `{}` panicked", server.name()))),
    }
}

#[cfg(test)]
mod tests {
    use mcp::{Limits, ServerConfig, Transport};

    use super::*;
    use crate::inferlet::tests::inferlet;

    fn servers(users: Option<Vec<String>>) -> Servers {
        // It takes what it is told, and never answers.
        let command = vec!["sleep".to_string(), "60".to_string()];
        let environment = std::env::vars().filter(|(name, _)| name == "PATH").collect();
        let transport = Transport::Stdio { command, environment };
        Servers::new(vec![ServerConfig {
            name: "slow".to_string(),
            transport,
            tools: None,
            users,
            limits: Limits::default(),
        }])
    }

    #[tokio::test]
    async fn an_inferlet_has_so_many_calls_and_they_hold_memory() {
        let (servers, (inferlet, _client)) = (servers(None), inferlet());
        let mut calls: Vec<_> = (0..CALLS)
            .map(|_| Box::pin(call(&servers, &inferlet, "slow", "t".into(), "{}".into())))
            .collect();
        for call in &mut calls {
            assert!(futures::poll!(call).is_pending());
        }
        assert_eq!(inferlet.host_memory.taken(), CALLS as u64 * ((4 << 20) + 3));
        let refused = list(&servers, &inferlet, "slow").await;
        assert!(matches!(refused, Err(ApiError::LimitExceeded(_))), "{refused:?}");
        drop(calls);
        assert!(inferlet.tool_calls.available_permits() == CALLS, "their places come back at once");
        for _ in 0..1000 {
            if inferlet.host_memory.taken() == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("{} bytes are held by calls that were given up", inferlet.host_memory.taken());
    }

    #[tokio::test]
    async fn a_server_is_not_there_for_others() {
        let (servers, (inferlet, _client)) = (servers(Some(vec!["ann".to_string()])), inferlet());
        let refused = list(&servers, &inferlet, "slow").await;
        assert!(matches!(&refused, Err(ApiError::NotFound(text)) if text.contains("none")), "{refused:?}");
    }
}
