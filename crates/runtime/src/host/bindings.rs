//! The host side of `wit/`, generated. Each interface is implemented in the file of its name.

use crate::host;

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "inferlet",
    // Functions that a program waits for, but whose work may be long: they go to other threads.
    imports: {
        "pie:inferlet/model.[method]model.tokenize": async | trappable,
        "pie:inferlet/model.[method]model.detokenize": async | trappable,
        "pie:inferlet/model.[method]model.vocabulary": async | trappable,
        "pie:inferlet/model.[method]model.encode-chat": async | trappable,
        "pie:inferlet/model.[method]model.format-chat": async | trappable,
        "pie:inferlet/grammar.[method]constraint.advance": async | trappable,
        "pie:inferlet/grammar.[method]constraint.allowed": async | trappable,
        "pie:inferlet/grammar.[method]constraint.forced": async | trappable,
        "pie:inferlet/answer.[static]reader.create": async | trappable,
        "pie:inferlet/answer.call-grammar": async | trappable,
        "pie:inferlet/answer.call-triggers": async | trappable,
        "pie:inferlet/adapter.available": async | trappable,
        "pie:inferlet/store.get": async | trappable,
        "pie:inferlet/store.keys": async | trappable,
        default: trappable,
    },
    trappable_error_type: { "pie:inferlet/types.error" => crate::host::Failure },
    require_store_data_send: true,
    with: {
        "pie:inferlet/model.model": host::model::ModelHandle,
        "pie:inferlet/context.context": host::context::Context,
        "pie:inferlet/forward.token-counts": host::counts::TokenCounts,
        "pie:inferlet/embeds.embeddings": host::embeds::Embeddings,
        "pie:inferlet/grammar.constraint": host::grammar::Constraint,
        "pie:inferlet/answer.reader": host::answer::Reader,
        "pie:inferlet/adapter.adapter": host::adapter::Adapter,
        "pie:inferlet/messaging.subscription": host::messaging::Subscription,
        "pie:inferlet/runtime.child": host::runtime::Child,
    },
});

pub(crate) use pie::inferlet as api;
pub(crate) use pie::inferlet::types::Error as WitError;
