//! `/v1/messages` and `/v1/messages/count_tokens`: the next message of a conversation, as Anthropic's API has it.

use inferlet::http::{Request, Response};
use inferlet_openai::{messages, respond};

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    respond(request, messages::error_body, messages::route).await
}
