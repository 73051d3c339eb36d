//! `mcp`: tools of the servers that the operator has configured.

use wasmtime::component::{Accessor, HasSelf};

use super::bindings::api::mcp as api;
use super::{Failure, HostState, call as note, state};
use crate::tools;

impl api::Host for HostState {
    fn servers(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(tools::allowed(&self.shared.mcp, &self.inferlet).map(|server| server.name().to_string()).collect())
    }

    fn find(&mut self, url: String) -> Result<String, Failure> {
        let server = tools::at(&self.shared.mcp, &self.inferlet, &url)?;
        Ok(server.name().to_string())
    }
}

impl<T: Send + 'static> api::HostWithStore<T> for HasSelf<HostState> {
    async fn tools(accessor: &Accessor<T, Self>, server: String) -> Result<Vec<api::Tool>, Failure> {
        let _call = note(accessor, "mcp.tools", || vec![("server", server.as_str().into())]);
        let (shared, inferlet) = state(accessor);
        let tools = tools::list(&shared.mcp, &inferlet, &server).await?;
        Ok(tools.into_iter().map(tool).collect())
    }

    async fn call(
        accessor: &Accessor<T, Self>,
        server: String,
        tool: String,
        arguments: String,
    ) -> Result<api::Outcome, Failure> {
        let _call = note(accessor, "mcp.call", || {
            vec![("server", server.as_str().into()), ("tool", tool.as_str().into())]
        });
        let (shared, inferlet) = state(accessor);
        let outcome = tools::call(&shared.mcp, &inferlet, &server, tool, arguments).await?;
        let mcp::Outcome { content, structured, is_error } = outcome;
        Ok(api::Outcome { content: content.into_iter().map(part).collect(), structured, is_error })
    }
}

fn tool(tool: mcp::Tool) -> api::Tool {
    let mcp::Tool { name, title, description, input_schema, output_schema, annotations } = tool;
    api::Tool { name, title, description, input_schema, output_schema, annotations }
}

fn part(part: mcp::Content) -> api::Content {
    let media = |mcp::Media { mime_type, data }| api::Media { mime_type, data };
    match part {
        mcp::Content::Text(text) => api::Content::Text(text),
        mcp::Content::Image(image) => api::Content::Image(media(image)),
        mcp::Content::Audio(audio) => api::Content::Audio(media(audio)),
        mcp::Content::Resource(json) => api::Content::Resource(json),
    }
}
