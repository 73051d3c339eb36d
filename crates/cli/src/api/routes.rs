// The routes of the API, and the programs of `inferlets/` that answer them. `build.rs` reads this table too, to build
// the programs.
&[
    ("/v1/models", "api-models"),
    ("/v1/completions", "api-completions"),
    ("/v1/chat/completions", "api-chat"),
    ("/v1/responses", "api-responses"),
    ("/v1/messages", "api-messages"),
    ("/v1/embeddings", "api-embeddings"),
    ("/v1/rerank", "api-rerank"),
    ("/v2/rerank", "api-rerank"),
    ("/rerank", "api-rerank"),
    ("/v1/score", "api-score"),
    ("/score", "api-score"),
    ("/v1/generate", "api-generate"),
    ("/infill", "api-infill"),
    ("/tokenize", "api-tokenize"),
    ("/detokenize", "api-detokenize"),
    ("/apply-template", "api-apply-template"),
    ("/openapi.json", "api-openapi"),
    ("/docs", "api-docs"),
]
