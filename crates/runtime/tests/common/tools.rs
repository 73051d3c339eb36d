//! The MCP server that tests and measurements call.

use std::path::Path;

use runtime::{McpLimits, McpServer, McpTransport};

/// `test`, the script of `crates/mcp/tests`.
pub(crate) fn server() -> McpServer {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mcp/tests/server.sh");
    let environment = std::env::vars().filter(|(name, _)| name == "PATH").collect();
    McpServer {
        name: "test".into(),
        transport: McpTransport::Stdio { command: vec![script.display().to_string()], environment },
        tools: Some(["echo", "fail", "slow", "broken", "no such tool"].map(String::from).to_vec()),
        users: None,
        limits: McpLimits::default(),
    }
}
