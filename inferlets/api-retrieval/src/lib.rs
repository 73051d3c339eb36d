//! Retrieval before chat: `/v1/chat/completions` with what a search over documents finds for the last message. Mounted
//! with `--serve /v1/chat/completions=api-retrieval`, it is that route, with all that clients know of it.

use inferlet::Documents;
use inferlet::http::{Request, Response};
use inferlet_openai::chat::ChatRequest;
use inferlet_openai::serve;

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, async |fields| {
        let mut request = ChatRequest::read(fields).await?;
        let documents = Documents::paragraphs(include_str!("documents.txt"));
        let found = documents.search(request.chat.last_text(), 2).join("\n");
        if !found.is_empty() {
            request.chat.extend_last(&format!("\n\nWhat is known about it:\n{found}"));
        }
        request.answer().await
    })
    .await
}
